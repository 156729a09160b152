import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Talks with a model, an answer at a time, as it is written. One file, no library, Java 17:
 *
 * <pre>
 * paddock serve --model_name_or_path starter
 * java Chat.java            # or: echo "Hello" | java Chat.java MODEL
 * </pre>
 */
public class Chat {
    private static final String URL = environment("PADDOCK_URL", "http://127.0.0.1:8000") + "/v1";
    private static final String KEY = environment("PADDOCK_API_KEY", "none");
    private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] args) throws IOException, InterruptedException {
        String model = args.length > 0 ? args[0] : firstModel();
        List<String> turns = new ArrayList<>();
        System.err.println("You are talking to " + model + "; an empty line ends.");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null && !line.isBlank(); line = input.readLine()) {
            turns.add(turn("user", line.strip()));
            turns.add(turn("assistant", answer(model, turns)));
        }
    }

    /** Prints the pieces of an answer as they come, and gives back the whole. */
    private static String answer(String model, List<String> turns) throws IOException, InterruptedException {
        String body = "{\"model\": " + quoted(model) + ", \"stream\": true, \"messages\": [" + String.join(", ", turns) + "]}";
        HttpResponse<Stream<String>> response = CLIENT.send(
                request("/chat/completions").POST(HttpRequest.BodyPublishers.ofString(body)).build(),
                HttpResponse.BodyHandlers.ofLines());
        if (response.statusCode() != 200) {
            throw new IOException(response.body().collect(Collectors.joining("\n")));
        }
        StringBuilder answer = new StringBuilder();
        response.body().filter(line -> line.startsWith("data: ")).map(line -> line.substring(6)).forEach(event -> {
            if (event.startsWith("{\"error\"")) {
                throw new IllegalStateException(event);
            }
            String piece = text(event, "content");
            if (piece != null) {
                answer.append(piece);
                System.out.print(piece);
                System.out.flush();
            }
        });
        System.out.println();
        return answer.toString();
    }

    private static String firstModel() throws IOException, InterruptedException {
        HttpResponse<String> response =
                CLIENT.send(request("/models").GET().build(), HttpResponse.BodyHandlers.ofString());
        String id = response.statusCode() == 200 ? text(response.body(), "id") : null;
        if (id == null) {
            throw new IOException(response.body());
        }
        return id;
    }

    private static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(URL + path))
                .header("Content-Type", "application/json")
                .header("Authorization", "Bearer " + KEY);
    }

    private static String turn(String role, String content) {
        return "{\"role\": " + quoted(role) + ", \"content\": " + quoted(content) + "}";
    }

    private static String environment(String name, String absent) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? absent : value;
    }

    /** A string as JSON has it. */
    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }

    /** The first string under a key; all that is needed of a piece. Inside strings quotes are escaped, so no text is taken for a key. */
    private static String text(String json, String key) {
        String start = "\"" + key + "\":\"";
        int at = json.indexOf(start);
        if (at < 0) {
            return null;
        }
        StringBuilder text = new StringBuilder();
        for (int i = at + start.length(); json.charAt(i) != '"'; i++) {
            char c = json.charAt(i);
            if (c != '\\') {
                text.append(c);
                continue;
            }
            c = json.charAt(++i);
            switch (c) {
                case 'n' -> text.append('\n');
                case 't' -> text.append('\t');
                case 'r' -> text.append('\r');
                case 'b' -> text.append('\b');
                case 'f' -> text.append('\f');
                case 'u' -> {
                    text.append((char) Integer.parseInt(json.substring(i + 1, i + 5), 16));
                    i += 4;
                }
                default -> text.append(c);
            }
        }
        return text.toString();
    }
}
