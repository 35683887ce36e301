//! The token endpoint's request and answers, as values (RFC 6749 sections 4.4 and 5, RFC 7523, SMART Backend Services).

use serde_json::{Value, json};

use super::assertion::{BadAssertion, claimed_client};
use super::scope::{InvalidScope, Scopes};
use super::token::AccessToken;

/// The only grant.
pub const GRANT_TYPE: &str = "client_credentials";
/// The only way a client proves who it is (RFC 7523 section 2.2).
pub const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Members of other ways to authenticate or other grants, which must not come with an assertion
/// (RFC 6749 section 2.3: "MUST NOT use more than one authentication method in each request").
const FOREIGN: [&str; 8] =
    ["client_secret", "assertion", "username", "password", "code", "refresh_token", "subject_token", "actor_token"];

/// A well-formed token request. Nothing in it is verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// What is asked for, as sent; [`Scopes::parse`] reads it.
    pub scope: String,
    /// The client assertion, as sent.
    pub assertion: String,
    client_id: Option<String>,
}

impl TokenRequest {
    /// Reads the members of the form in the order they came; the body only, never the query of the URL. Exactly one
    /// each of `grant_type`, `scope`, `client_assertion_type` and `client_assertion`; members that OAuth does not know
    /// are passed over, but nothing may come twice (RFC 6749 section 3.2).
    pub fn parse<'a>(form: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<TokenRequest, OAuthError> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for (name, value) in form {
            if members.iter().any(|(earlier, _)| *earlier == name) {
                return Err(OAuthError::InvalidRequest("A parameter is repeated; send each once.".into()));
            }
            if FOREIGN.contains(&name) {
                return Err(OAuthError::InvalidRequest(format!(
                    "The parameter {name} is not used here; authenticate with client_assertion only."
                )));
            }
            members.push((name, value));
        }
        // A member without a value counts as not sent (RFC 6749 section 3.2).
        let sent = |name: &str| members.iter().find(|(n, v)| *n == name && !v.is_empty()).map(|(_, v)| (*v).to_owned());
        let required = |name: &str| {
            sent(name).ok_or_else(|| OAuthError::InvalidRequest(format!("The parameter {name} is missing.")))
        };
        if required("grant_type")? != GRANT_TYPE {
            return Err(OAuthError::UnsupportedGrantType);
        }
        if required("client_assertion_type")? != CLIENT_ASSERTION_TYPE {
            return Err(OAuthError::InvalidRequest(format!("client_assertion_type must be {CLIENT_ASSERTION_TYPE}.")));
        }
        Ok(TokenRequest {
            scope: required("scope")?,
            assertion: required("client_assertion")?,
            client_id: sent("client_id"),
        })
    }

    /// The client to look up: the one the assertion claims, unverified. A `client_id` beside it is optional and must
    /// be the same (RFC 7521 section 4.2).
    pub fn claimed_client(&self) -> Result<String, BadAssertion> {
        let claimed = claimed_client(&self.assertion)?;
        match &self.client_id {
            Some(client_id) if *client_id != claimed => Err(BadAssertion::ClientId),
            _ => Ok(claimed),
        }
    }
}

/// Leaves the assertion out: until it is used it is as good as a password.
impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why there is no token (RFC 6749 section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// The form is wrong; the text says how.
    InvalidRequest(String),
    /// The client is unknown, disabled, or did not prove who it is: always the same answer.
    InvalidClient,
    /// The scopes cannot be read, or none of them is registered for the client; the text says which.
    InvalidScope(String),
    UnsupportedGrantType,
}

impl OAuthError {
    /// None of the scopes that were asked for is registered for the client.
    pub fn nothing_granted() -> OAuthError {
        OAuthError::InvalidScope(
            "None of the scopes asked for is registered for this client; ask for fewer, or have them registered."
                .into(),
        )
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            OAuthError::InvalidClient => 401,
            OAuthError::InvalidRequest(_) | OAuthError::InvalidScope(_) | OAuthError::UnsupportedGrantType => 400,
        }
    }

    /// The JSON of the answer, to be sent with `Cache-Control: no-store`.
    pub fn body(&self) -> Value {
        let (error, description) = match self {
            OAuthError::InvalidRequest(text) => ("invalid_request", text.as_str()),
            OAuthError::InvalidClient => (
                "invalid_client",
                "The client is not known, or its assertion is not acceptable: check client id, key, aud, exp and jti.",
            ),
            OAuthError::InvalidScope(text) => ("invalid_scope", text.as_str()),
            OAuthError::UnsupportedGrantType => ("unsupported_grant_type", "grant_type must be client_credentials."),
        };
        json!({ "error": error, "error_description": description })
    }
}

impl From<BadAssertion> for OAuthError {
    fn from(_: BadAssertion) -> OAuthError {
        OAuthError::InvalidClient
    }
}

impl From<InvalidScope> for OAuthError {
    fn from(fault: InvalidScope) -> OAuthError {
        OAuthError::InvalidScope(fault.to_string())
    }
}

/// The JSON that hands a token over (RFC 6749 section 5.1): status 200, `Cache-Control: no-store`. There is never a
/// refresh token. `expires_in` is in seconds.
pub fn token_answer(token: &AccessToken, expires_in: u32, granted: &Scopes) -> Value {
    json!({
        "access_token": token.reveal(),
        "token_type": "bearer",
        "expires_in": expires_in,
        "scope": granted.to_string(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn form() -> Vec<(&'static str, &'static str)> {
        vec![
            ("grant_type", GRANT_TYPE),
            ("scope", "system/ServiceRequest.crs"),
            ("client_assertion_type", CLIENT_ASSERTION_TYPE),
            // {"iss":"c","sub":"c","aud":"a","jti":"j","exp":1}
            ("client_assertion", "e30.eyJpc3MiOiJjIiwic3ViIjoiYyIsImF1ZCI6ImEiLCJqdGkiOiJqIiwiZXhwIjoxfQ.AA"),
        ]
    }

    #[test]
    fn a_token_request_is_four_parameters_in_any_order() {
        let mut form = form();
        form.reverse();
        form.push(("something_new", "passed over"));
        let request = TokenRequest::parse(form).unwrap();
        assert_eq!(request.scope, "system/ServiceRequest.crs");
        assert_eq!(request.claimed_client(), Ok("c".to_owned()));
        assert!(!format!("{request:?}").contains("e30"));
    }

    #[test]
    fn each_parameter_is_needed_and_none_may_come_twice() {
        for index in 0..form().len() {
            let mut missing = form();
            let (name, value) = missing.remove(index);
            let expected = OAuthError::InvalidRequest(format!("The parameter {name} is missing."));
            assert_eq!(TokenRequest::parse(missing.clone()), Err(expected.clone()));
            missing.push((name, ""));
            assert_eq!(TokenRequest::parse(missing), Err(expected));
            let mut twice = form();
            twice.push((name, value));
            assert!(matches!(TokenRequest::parse(twice), Err(OAuthError::InvalidRequest(_))), "{name} twice");
        }
        let mut twice = form();
        twice.extend([("other", "1"), ("other", "")]);
        assert!(matches!(TokenRequest::parse(twice), Err(OAuthError::InvalidRequest(_))));
    }

    #[test]
    fn other_grants_and_other_ways_to_authenticate_are_refused() {
        for grant in
            ["password", "authorization_code", "Client_Credentials", "urn:ietf:params:oauth:grant-type:token-exchange"]
        {
            let mut form = form();
            form[0].1 = grant;
            assert_eq!(TokenRequest::parse(form), Err(OAuthError::UnsupportedGrantType));
        }
        let mut saml = form();
        saml[2].1 = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
        assert!(matches!(TokenRequest::parse(saml), Err(OAuthError::InvalidRequest(_))));
        for name in FOREIGN {
            let mut form = form();
            form.push((name, "x"));
            assert!(matches!(TokenRequest::parse(form), Err(OAuthError::InvalidRequest(_))), "{name}");
        }
    }

    #[test]
    fn a_client_id_beside_the_assertion_must_be_the_same() {
        for (client_id, answer) in [("c", Ok("c".to_owned())), ("d", Err(BadAssertion::ClientId))] {
            let mut form = form();
            form.push(("client_id", client_id));
            assert_eq!(TokenRequest::parse(form).unwrap().claimed_client(), answer);
        }
    }

    #[test]
    fn errors_are_what_oauth_says_they_are() {
        let scope_fault = Scopes::parse("system/Task.sr").unwrap_err();
        for (error, status, code) in [
            (OAuthError::InvalidRequest("The parameter scope is missing.".into()), 400, "invalid_request"),
            (BadAssertion::Signature.into(), 401, "invalid_client"),
            (scope_fault.into(), 400, "invalid_scope"),
            (OAuthError::nothing_granted(), 400, "invalid_scope"),
            (OAuthError::UnsupportedGrantType, 400, "unsupported_grant_type"),
        ] {
            assert_eq!(error.status(), status);
            assert_eq!(error.body()["error"], code);
            // The characters RFC 6749 allows in error_description.
            let text = error.body()["error_description"].as_str().unwrap().to_owned();
            assert!(text.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E)), "{text}");
        }
    }

    #[test]
    fn a_token_answer_says_what_was_granted_and_for_how_long() {
        let granted = Scopes::parse("system/Task.read").unwrap();
        let answer = token_answer(&AccessToken::new([1; 32]), 300, &granted);
        assert_eq!(answer["token_type"], "bearer");
        assert_eq!(answer["expires_in"], 300);
        assert_eq!(answer["scope"], "system/Task.rs");
        assert_eq!(answer["access_token"], AccessToken::new([1; 32]).reveal());
        assert_eq!(answer.get("refresh_token"), None);
    }
}
