// The README's first session: two writers that have not seen each other, and a merge that loses nothing.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"dev.dynamoring/example/ring"
)

// fresh is a name that no other call gets.
func fresh() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(bytes)
}

// key is one key of one ring.
type key struct {
	api  *ring.ClientListenerAPIService
	ctx  context.Context
	name string
}

// put writes text; with seen it replaces the values that this context covers.
func (k key) put(text, seen string) {
	// A write that is sent again under its request id is one write.
	request := k.api.PutValue(k.ctx, k.name).Body(text).DynamoRequestId(fresh())
	if seen != "" {
		request = request.DynamoContext(seen)
	}
	if _, _, err := request.Execute(); err != nil {
		log.Fatalf("put: %v", err)
	}
}

// get returns all values in the order of the alphabet, and their context; no values if there are none.
func (k key) get() ([]string, string) {
	found, answer, err := k.api.GetValue(k.ctx, k.name).Execute()
	if answer != nil && answer.StatusCode == http.StatusNotFound {
		return nil, answer.Header.Get("Dynamo-Context")
	}
	if err != nil {
		log.Fatalf("get: %v", err)
	}
	values := []string{}
	for _, sibling := range found.Values {
		data, err := base64.StdEncoding.DecodeString(sibling.Data)
		if err != nil {
			log.Fatalf("get: %v", err)
		}
		values = append(values, string(data))
	}
	slices.Sort(values)
	return values, found.Context
}

func main() {
	address := "127.0.0.1:7101"
	if len(os.Args) > 1 {
		address = strings.TrimPrefix(os.Args[1], "http://")
	}
	client := ring.NewAPIClient(ring.NewConfiguration())
	ctx := context.WithValue(context.Background(), ring.ContextServerVariables,
		map[string]string{"address": address})
	cart := key{client.ClientListenerAPI, ctx, "cart:" + fresh()}

	cart.put("milk", "")
	cart.put("bread", "") // this writer has not seen "milk": the ring keeps both
	both, seen := cart.get()
	fmt.Println(strings.Join(both, " | "))

	slices.Reverse(both)
	cart.put(strings.Join(both, " and "), seen)
	merged, seen := cart.get()
	fmt.Println(strings.Join(merged, " | "))

	if _, err := cart.api.DeleteValue(ctx, cart.name).DynamoContext(seen).Execute(); err != nil {
		log.Fatalf("delete: %v", err)
	}
	if left, _ := cart.get(); len(left) == 0 {
		fmt.Println("gone")
	}
}
