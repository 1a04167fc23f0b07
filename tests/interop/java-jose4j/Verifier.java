import org.jose4j.jwa.AlgorithmConstraints.ConstraintType;
import org.jose4j.jwk.HttpsJwks;
import org.jose4j.jws.AlgorithmIdentifiers;
import org.jose4j.jwt.consumer.JwtConsumer;
import org.jose4j.jwt.consumer.JwtConsumerBuilder;
import org.jose4j.keys.resolvers.HttpsJwksVerificationKeyResolver;

/** jose4j with its own remote key set, as it comes, or, with HOLD, keeping the set that long in an outage. */
final class Verifier {
  public static void main(String[] arguments) throws Exception {
    HttpsJwks keys = new HttpsJwks(System.getenv("JWKS_URL"));
    String hold = System.getenv("HOLD");
    if (hold != null) {
      keys.setRetainCacheOnErrorDuration(Long.parseLong(hold));
    }
    JwtConsumer consumer =
        new JwtConsumerBuilder()
            .setVerificationKeyResolver(new HttpsJwksVerificationKeyResolver(keys))
            .setJwsAlgorithmConstraints(ConstraintType.PERMIT, AlgorithmIdentifiers.RSA_USING_SHA256)
            .setExpectedIssuer(System.getenv("ISSUER"))
            .setExpectedAudience(System.getenv("AUDIENCE"))
            .setRequireExpirationTime()
            .build();
    Lines.serve(consumer::process, HttpsJwks.class);
  }
}
