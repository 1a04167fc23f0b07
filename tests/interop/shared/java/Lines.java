import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;

/** The line protocol: {@code ready VERSION}, then for each line with a token {@code ok} or {@code no REASON}. */
final class Lines {
  interface Check {
    void verify(String token) throws Exception;
  }

  /** The versions are those in the names of the files that the classes came from. */
  static void serve(Check check, Class<?>... libraries) throws Exception {
    System.out.println(
        "ready " + Arrays.stream(libraries).map(Lines::version).collect(Collectors.joining(", ")));
    BufferedReader tokens = new BufferedReader(new InputStreamReader(System.in));
    for (String token = tokens.readLine(); token != null; token = tokens.readLine()) {
      try {
        check.verify(token);
        System.out.println("ok");
      } catch (Exception error) {
        String reason = error.getClass().getSimpleName() + ": " + error.getMessage();
        System.out.println("no " + reason.replaceAll("\\s+", " "));
      }
    }
  }

  private static String version(Class<?> library) {
    String file = library.getProtectionDomain().getCodeSource().getLocation().getPath();
    return Path.of(file).getFileName().toString().replaceFirst("-([0-9][^-]*)\\.jar$", " $1");
  }
}
