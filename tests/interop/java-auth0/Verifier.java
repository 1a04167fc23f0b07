import com.auth0.jwk.Jwk;
import com.auth0.jwk.JwkException;
import com.auth0.jwk.JwkProvider;
import com.auth0.jwk.JwkProviderBuilder;
import com.auth0.jwt.JWT;
import com.auth0.jwt.JWTVerifier;
import com.auth0.jwt.algorithms.Algorithm;
import com.auth0.jwt.interfaces.RSAKeyProvider;
import java.net.URI;
import java.security.interfaces.RSAPrivateKey;
import java.security.interfaces.RSAPublicKey;
import java.util.concurrent.TimeUnit;

/**
 * java-jwt with jwks-rsa to find the key, as they come, or holding a key, and limiting
 * requests, for HOLD seconds.
 */
final class Verifier {
  public static void main(String[] arguments) throws Exception {
    JwkProviderBuilder builder =
        new JwkProviderBuilder(URI.create(System.getenv("JWKS_URL")).toURL());
    String hold = System.getenv("HOLD");
    if (hold != null) {
      long held = Long.parseLong(hold);
      builder.cached(10, held, TimeUnit.SECONDS).rateLimited(10, held, TimeUnit.SECONDS);
    }
    JwkProvider keys = builder.build();
    JWTVerifier verifier =
        JWT.require(Algorithm.RSA256(new Found(keys)))
            .withIssuer(System.getenv("ISSUER"))
            .withAudience(System.getenv("AUDIENCE"))
            .build();
    Lines.serve(verifier::verify, JWT.class, Jwk.class);
  }

  private record Found(JwkProvider keys) implements RSAKeyProvider {
    @Override
    public RSAPublicKey getPublicKeyById(String kid) {
      try {
        return (RSAPublicKey) keys.get(kid).getPublicKey();
      } catch (JwkException e) {
        throw new IllegalStateException(e.getMessage(), e);
      }
    }

    @Override
    public RSAPrivateKey getPrivateKey() {
      return null;
    }

    @Override
    public String getPrivateKeyId() {
      return null;
    }
  }
}
