import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A verifier with Nimbus, tried with `jwks-server sandbox` in JUnit. */
class VerifierTest {
    private static Process process;
    private static String sandbox;
    /** A realm for each test, so that they can run side by side. */
    private final String issuer = sandbox + "/" + UUID.randomUUID();

    @BeforeAll
    static void start() throws Exception {
        String program = Optional.ofNullable(System.getenv("JWKS_SERVER")).orElse("jwks-server");
        process = new ProcessBuilder(program, "sandbox", "--port", "0").start();
        sandbox = process.inputReader().readLine();
    }

    @AfterAll
    static void stop() {
        process.destroy();
    }

    private String post(String path, String body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(issuer + path)).POST(HttpRequest.BodyPublishers.ofString(body));
        var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        assertEquals(200, answer.statusCode(), answer.body());
        return answer.body();
    }

    private String sign(String more) throws Exception {
        return post("/sign", "{\"claims\": {\"aud\": \"api\"}" + more + "}").split("\"")[3];
    }

    private DefaultJWTProcessor<SecurityContext> verifier() throws Exception {
        var url = URI.create(issuer + "/.well-known/jwks.json").toURL();
        var keys = JWKSourceBuilder.create(url).rateLimited(false).build();
        var verifier = new DefaultJWTProcessor<SecurityContext>();
        verifier.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.RS256, keys));
        var expected = new JWTClaimsSet.Builder().issuer(issuer).build();
        verifier.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>("api", expected, Set.of("exp")));
        return verifier;
    }

    private static boolean accepts(DefaultJWTProcessor<SecurityContext> verifier, String token) {
        try {
            verifier.process(token, null);
            return true;
        } catch (Exception e) {
            return false;
        }
    }

    @Test
    void goodTokensAreAcceptedAndARotationIsFollowed() throws Exception {
        var verifier = verifier();
        assertTrue(accepts(verifier, sign("")));
        post("/rotate", "");
        post("/rotate", "");
        assertTrue(accepts(verifier, sign("")));
    }

    @ParameterizedTest
    @ValueSource(strings = {"alg-none", "alg-hs256-pem", "sig-stranger", "exp-past-1h", "aud-wrong", "iss-wrong"})
    void badTokensAreRefused(String fault) throws Exception {
        assertFalse(accepts(verifier(), sign(", \"fault\": \"" + fault + "\"")));
    }
}
