import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** Puts, gets and deletes a key of the listener that the argument names, in both versions. */
public class JavaClient {
  private static HttpClient client;
  private static String key;
  private static String context;

  public static void main(String[] arguments) throws Exception {
    for (HttpClient.Version version : new HttpClient.Version[] {
        HttpClient.Version.HTTP_2, HttpClient.Version.HTTP_1_1}) {
      client = HttpClient.newBuilder().version(version).build();
      key = arguments[0] + "/v1/kv/java-" + version;
      context = null;
      tell(version + " PUT", request().PUT(BodyPublishers.ofString("from java")));
      tell(version + " GET", request().GET());
      tell(version + " expecting PUT", request().expectContinue(true)
          .PUT(BodyPublishers.ofString("from java, expecting")));
      tell(version + " GET", request().GET());
      tell(version + " DELETE", request().DELETE());
    }
    System.exit(0);
  }

  private static HttpRequest.Builder request() {
    var builder = HttpRequest.newBuilder(URI.create(key)).timeout(Duration.ofSeconds(20));
    return context == null ? builder : builder.header("Dynamo-Context", context);
  }

  private static void tell(String what, HttpRequest.Builder request) throws Exception {
    HttpResponse<String> answer = client.send(request.build(), BodyHandlers.ofString());
    context = answer.headers().firstValue("Dynamo-Context").orElse(context);
    System.out.println((what + " " + answer.statusCode() + " " + answer.version() + " "
        + answer.body()).strip());
  }
}
