import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.DefaultResourceRetriever;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.net.URI;
import java.util.Set;

/**
 * nimbus-jose-jwt with its own source of keys, as it comes, or holding the set for HOLD seconds. A
 * fetch may take longer than the half second that it has by default, which a busy machine exceeds.
 */
final class Verifier {
  public static void main(String[] arguments) throws Exception {
    JWKSourceBuilder<SecurityContext> builder =
        JWKSourceBuilder.create(
            URI.create(System.getenv("JWKS_URL")).toURL(), new DefaultResourceRetriever(30_000, 30_000));
    String hold = System.getenv("HOLD");
    if (hold != null) {
      long held = 1000 * Long.parseLong(hold);
      builder.cache(held, held / 2).refreshAheadCache(false).rateLimited(held / 2).outageTolerantForever();
    }
    JWKSource<SecurityContext> keys = builder.build();
    JWTClaimsSet exact = new JWTClaimsSet.Builder().issuer(System.getenv("ISSUER")).build();
    DefaultJWTProcessor<SecurityContext> processor = new DefaultJWTProcessor<>();
    processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.RS256, keys));
    processor.setJWTClaimsSetVerifier(
        new DefaultJWTClaimsVerifier<>(System.getenv("AUDIENCE"), exact, Set.of("exp")));
    Lines.serve(token -> processor.process(token, null), JWKSource.class);
  }
}
