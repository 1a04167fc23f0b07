import com.nimbusds.jose.jwk.source.JWKSource;
import java.util.List;
import org.springframework.security.oauth2.core.DelegatingOAuth2TokenValidator;
import org.springframework.security.oauth2.jwt.JwtClaimNames;
import org.springframework.security.oauth2.jwt.JwtClaimValidator;
import org.springframework.security.oauth2.jwt.JwtValidators;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;

/** Spring Security's decoder, as its {@code jwk-set-uri} makes it, or {@code issuer-uri} when DISCOVERY is set. */
final class Verifier {
  public static void main(String[] arguments) throws Exception {
    String issuer = System.getenv("ISSUER");
    NimbusJwtDecoder decoder =
        System.getenv("DISCOVERY") == null
            ? NimbusJwtDecoder.withJwkSetUri(System.getenv("JWKS_URL")).build()
            : NimbusJwtDecoder.withIssuerLocation(issuer).build();
    String audience = System.getenv("AUDIENCE");
    decoder.setJwtValidator(
        new DelegatingOAuth2TokenValidator<>(
            JwtValidators.createDefaultWithIssuer(issuer),
            new JwtClaimValidator<List<String>>(
                JwtClaimNames.AUD, given -> given != null && given.contains(audience))));
    Lines.serve(decoder::decode, NimbusJwtDecoder.class, JWKSource.class);
  }
}
