//! Settings of common verifiers for this configuration; docs/verifiers.md says more.

use maud::{Markup, html};
use serde_json::json;

use super::{code, duration, fact};
use crate::domain::tokens::Audience;
use crate::http::jwks;
use crate::http::schedule::Schedule;
use crate::http::state::AppState;

/// Fetches for an unknown kid are to be at least this far apart, in seconds.
const COOLDOWN: u64 = 30;

/// What a verifier has to know.
struct Rules {
    key_set: String,
    issuer: Option<String>,
    audiences: Vec<String>,
    /// Seconds, as all times here.
    max_age: u64,
    leeway: u64,
}

pub(in crate::http) fn section(state: &AppState, schedule: &Schedule, origin: &str) -> Markup {
    let rules = Rules {
        key_set: match &state.issuer {
            Some(issuer) => issuer.join(jwks::PATH),
            None => format!("{origin}{}", jwks::PATH),
        },
        issuer: state
            .issuer
            .as_ref()
            .map(|issuer| issuer.as_str().to_owned()),
        audiences: match &state.audience {
            None => Vec::new(),
            Some(Audience::One(one)) => vec![one.clone()],
            Some(Audience::Several(all)) => all.clone(),
        },
        max_age: state.jwks_max_age.as_secs(),
        leeway: schedule.contract.clock_skew_seconds,
    };
    let contract = &schedule.contract;
    html! {
        section aria-labelledby="verify" {
            h2 #verify { "Verify its tokens" }
            dl {
                (fact("Key set", html! { code { (rules.key_set) } }))
                (fact("Issuer", match &rules.issuer {
                    Some(issuer) => html! { code { (issuer) } },
                    None => html! { "not set: tokens have no " code { "iss" } },
                }))
                (fact("Algorithm", html! { code { "RS256" } " and no other" }))
                (fact("Audience", html! {
                    @if rules.audiences.is_empty() { "not set: tokens have no " code { "aud" } }
                    @for (n, audience) in rules.audiences.iter().enumerate() {
                        @if n > 0 { ", " }
                        code { (audience) }
                    }
                }))
                (fact("Leeway", html! { "at most " (duration(rules.leeway)) }))
                (fact("Token life", html! { "at most " (duration(contract.max_token_lifetime_seconds)) }))
                (fact("Hold the set", html! {
                    (duration(rules.max_age)) ", never over " (duration(contract.max_cache_seconds))
                }))
                (fact("Unknown kid", html! { "fetch again, at most every " (duration(COOLDOWN)) }))
            }
            p.hint { "The same as settings; all are for this configuration." }
            div.verifiers {
                @for (name, text) in rules.settings() {
                    details name="verifier" {
                        summary { (name) }
                        (code(&text))
                    }
                }
            }
        }
    }
}

/// A string literal of Python, JavaScript, Go, Java and YAML.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

impl Rules {
    fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("PyJWT · Python", self.pyjwt()),
            ("jose · JavaScript", self.jose()),
            ("keyfunc and golang-jwt · Go", self.keyfunc()),
            ("Spring Security · Java", self.spring()),
            ("mod_auth_openidc · Apache", self.mod_auth_openidc()),
        ]
    }

    /// The audience alone, or a list in brackets.
    fn audience(&self) -> Option<String> {
        match &*self.audiences {
            [] => None,
            [one] => Some(quoted(one)),
            all => Some(json!(all).to_string()),
        }
    }

    fn pyjwt(&self) -> String {
        let (url, max_age, leeway) = (quoted(&self.key_set), self.max_age, self.leeway);
        let mut rules = format!("algorithms=[\"RS256\"], leeway={leeway}");
        if let Some(issuer) = &self.issuer {
            rules += &format!(",\n        issuer={}", quoted(issuer));
        }
        if let Some(audience) = self.audience() {
            rules += &format!(",\n        audience={audience}");
        }
        format!(
            "import jwt\n\nkeys = jwt.PyJWKClient({url}, lifespan={max_age})\n\ndef claims(token):\n    key = keys.get_signing_key_from_jwt(token)\n    return jwt.decode(token, key, {rules})"
        )
    }

    fn jose(&self) -> String {
        let (url, max_age) = (quoted(&self.key_set), self.max_age * 1000);
        let mut rules = format!(
            "  algorithms: [\"RS256\"],\n  clockTolerance: {},\n",
            self.leeway
        );
        if let Some(issuer) = &self.issuer {
            rules += &format!("  issuer: {},\n", quoted(issuer));
        }
        if let Some(audience) = self.audience() {
            rules += &format!("  audience: {audience},\n");
        }
        format!(
            "import {{ createRemoteJWKSet, jwtVerify }} from \"jose\";\n\nconst keys = createRemoteJWKSet(new URL({url}), {{\n  cacheMaxAge: {max_age}, cooldownDuration: {},\n}});\nconst {{ payload }} = await jwtVerify(token, keys, {{\n{rules}}});",
            COOLDOWN * 1000
        )
    }

    fn keyfunc(&self) -> String {
        let (url, max_age, leeway) = (quoted(&self.key_set), self.max_age, self.leeway);
        let mut rules = format!(
            "\tjwt.WithValidMethods([]string{{\"RS256\"}}),\n\tjwt.WithExpirationRequired(),\n\tjwt.WithLeeway({leeway}*time.Second),\n"
        );
        if let Some(issuer) = &self.issuer {
            rules += &format!("\tjwt.WithIssuer({}),\n", quoted(issuer));
        }
        if !self.audiences.is_empty() {
            let all: Vec<_> = self.audiences.iter().map(|it| quoted(it)).collect();
            rules += &format!("\tjwt.WithAudience({}),\n", all.join(", "));
        }
        format!(
            "keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{{{url}}},\n\tkeyfunc.Override{{RefreshInterval: {max_age} * time.Second}})\n// …\ntoken, err := jwt.Parse(text, keys.Keyfunc,\n{rules})"
        )
    }

    fn spring(&self) -> String {
        let indent = "          ";
        let mut rules = format!(
            "{indent}jwk-set-uri: {}\n{indent}jws-algorithms: RS256\n",
            quoted(&self.key_set)
        );
        if let Some(issuer) = &self.issuer {
            rules += &format!("{indent}issuer-uri: {}\n", quoted(issuer));
        }
        if !self.audiences.is_empty() {
            rules += &format!("{indent}audiences: {}\n", json!(self.audiences));
        }
        format!("spring:\n  security:\n    oauth2:\n      resourceserver:\n        jwt:\n{rules}")
    }

    fn mod_auth_openidc(&self) -> String {
        // The module takes nothing below.
        let interval = self.max_age.max(300);
        let rules = match &self.issuer {
            Some(issuer) => format!(
                "OIDCOAuthServerMetadataURL {}/.well-known/openid-configuration",
                issuer.trim_end_matches('/')
            ),
            None => format!("OIDCOAuthVerifyJwksUri {}", self.key_set),
        };
        let audiences = self.audiences.iter();
        let required: String = audiences
            .map(|audience| format!("\n  Require claim {}", quoted(&format!("aud:{audience}"))))
            .collect();
        let required = match &*required {
            "" => "\n  Require valid-user",
            some => some,
        };
        format!(
            "{rules}\nOIDCJWKSRefreshInterval {interval}\n\n<Location /api>\n  AuthType oauth20{required}\n</Location>"
        )
    }
}
