import dev.dynamoring.ApiClient;
import dev.dynamoring.ApiException;
import dev.dynamoring.ClientListenerApi;
import dev.dynamoring.model.Sibling;
import dev.dynamoring.model.Values;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.UUID;
import java.util.stream.Collectors;

/** The README's first session: two writers that have not seen each other, and a merge. */
public class Session {
  private final ClientListenerApi api;
  private final String key = "cart:" + UUID.randomUUID();

  Session(String address) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(address);
    api = new ClientListenerApi(client);
  }

  /** Writes text; with a context it replaces the values that the context covers. */
  void put(String text, String context) throws ApiException {
    // A write that is sent again under its request id is one write.
    String id = UUID.randomUUID().toString();
    api.putValue(
        key, text, null, null, null, null, null, context, id, null, null, null, null,
        Collections.emptyMap());
  }

  static List<String> texts(Values found) {
    return found.getValues().stream()
        .map(Sibling::getData)
        .map(data -> new String(data, StandardCharsets.UTF_8))
        .sorted(Collections.reverseOrder())
        .collect(Collectors.toList());
  }

  void play() throws ApiException {
    put("milk", null);
    put("bread", null); // this writer has not seen "milk": the ring keeps both
    Values both = api.getValue(key, null, null, null, null);
    System.out.println(String.join(" | ", texts(both)));
    put(String.join(" and ", texts(both)), both.getContext());
    Values merged = api.getValue(key, null, null, null, null);
    System.out.println(String.join(" | ", texts(merged)));
    api.deleteValue(key, null, null, null, null, null, merged.getContext(), null);
    try {
      api.getValue(key, null, null, null, null);
    } catch (ApiException error) {
      if (error.getCode() != 404) throw error;
      System.out.println("gone");
    }
  }

  public static void main(String[] words) throws ApiException {
    new Session(words.length > 0 ? words[0] : "http://127.0.0.1:7101").play();
  }
}
