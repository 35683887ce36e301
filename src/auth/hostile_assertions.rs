//! Hostile assertions, each refused, each for its own reason, all with one answer (RFC 8725; the attack families of
//! OWASP's JWT cheat sheet).

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::assertion::BadAssertion;
use super::assertion_tests::{AUDIENCE, CLIENT, JWKS_URL, NOW, RS384, check, claims, header_with, signed, signed_by};
use super::oauth::OAuthError;
use super::test_keys::{EC, OTHER_EC, OTHER_RSA, P256, RSA, b64};

/// What it tries, the assertion, and why it is refused.
type Hostile = (String, String, BadAssertion);

fn case(name: impl Into<String>, assertion: String, reason: BadAssertion) -> Hostile {
    (name.into(), assertion, reason)
}

fn hostile_algorithms() -> Vec<Hostile> {
    let mut all = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", "", "null"] {
        let header = format!(r#"{{"alg":"{none}","kid":"rsa","typ":"JWT"}}"#);
        all.push(case(format!("alg {none:?}, no signature"), with_signature(&header, ""), BadAssertion::Algorithm));
        all.push(case(format!("alg {none:?}, signed"), signed(&header, &claims(&[])), BadAssertion::Algorithm));
    }
    for alg in ["RS256", "PS384", "PS512"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"rsa","typ":"JWT"}}"#);
        let assertion = signed_by(&RSA, alg, &header, &claims(&[]));
        all.push(case(format!("{alg} by the client's own key"), assertion, BadAssertion::Algorithm));
    }
    for alg in ["ES256", "ES512", "EdDSA", "RS384 ", "rs384", "Rs384", "RS384\\u0000", "HS384,RS384", "dir", "RSA-OAEP"]
    {
        let header = format!(r#"{{"alg":"{alg}","kid":"rsa","typ":"JWT"}}"#);
        all.push(case(format!("alg {alg:?}"), signed(&header, &claims(&[])), BadAssertion::Algorithm));
    }
    for alg in ["null", "384", "[\"RS384\"]", "{\"alg\":\"RS384\"}", "true"] {
        let header = format!(r#"{{"alg":{alg},"kid":"rsa","typ":"JWT"}}"#);
        all.push(case(format!("alg as {alg}"), signed(&header, &claims(&[])), BadAssertion::Header));
    }
    all.push(case("no alg", signed(r#"{"kid":"rsa","typ":"JWT"}"#, &claims(&[])), BadAssertion::Header));
    all.extend(hostile_keyed_hashes());
    all
}

/// The public key, which everybody knows, as the secret of a keyed hash.
fn hostile_keyed_hashes() -> Vec<Hostile> {
    let mut all = Vec::new();
    let modulus = RSA.jwk["n"].as_str().unwrap();
    let secrets = [
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(modulus).unwrap(),
        RSA.jwk.to_string().into_bytes(),
        vec![],
    ];
    for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for (index, secret) in secrets.iter().enumerate() {
            let header = format!(r#"{{"alg":"{alg}","kid":"rsa","typ":"JWT"}}"#);
            let assertion = keyed_hash(algorithm, &header, secret);
            all.push(case(format!("{alg} with public key {index} as secret"), assertion, BadAssertion::Algorithm));
        }
    }
    let disguised = keyed_hash(hmac::HMAC_SHA384, RS384, &secrets[1]);
    all.push(case("HMAC that calls itself RS384", disguised, BadAssertion::Signature));
    all
}

fn hostile_signatures() -> Vec<Hostile> {
    let es384 = r#"{"alg":"ES384","kid":"ec","typ":"JWT"}"#;
    let good = signed(RS384, &claims(&[]));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let ec_message = format!("{}.{}", b64(es384), b64(claims(&[])));
    let ec = EC.sign("ES384", &ec_message);
    // The order of P-384 (FIPS 186-5 with SP 800-186 section 3.2.1.4).
    let order = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let order: Vec<u8> = (0..48).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap()).collect();
    let one: Vec<u8> = [vec![0; 47], vec![1]].concat();
    let der = [&[0x30, 0x66, 0x02, 0x31, 0x00], &ec[..48], &[0x02, 0x31, 0x00], &ec[48..]].concat();
    let other_payload = format!("{}.{}.{}", b64(RS384), b64(claims(&[("jti", "\"two\"")])), b64(&signature));
    let rs512 = r#"{"alg":"RS512","kid":"rsa","typ":"JWT"}"#;
    let bad = BadAssertion::Signature;
    let mut all = vec![
        case("RSA, empty signature", format!("{message}."), bad),
        case("RSA, truncated", format!("{message}.{}", b64(&signature[..255])), bad),
        case("RSA, one octet more", format!("{message}.{}", b64([&signature[..], &[0]].concat())), bad),
        case("RSA, a leading zero more", format!("{message}.{}", b64([&[0], &signature[..]].concat())), bad),
        case("RSA, zeros", with_signature(RS384, [0; 256]), bad),
        case("RSA, one", with_signature(RS384, [vec![0; 255], vec![1]].concat()), bad),
        case("RSA, ones", with_signature(RS384, [255; 256]), bad),
        case("a signature of another payload", other_payload, bad),
        case("RS384 that calls itself RS512", signed(rs512, &claims(&[])), bad),
        case("RS512 that calls itself RS384", signed_by(&RSA, "RS512", RS384, &claims(&[])), bad),
        case("PS384 that calls itself RS384", signed_by(&RSA, "PS384", RS384, &claims(&[])), bad),
        case("another's RSA key of the same kid", signed_by(&OTHER_RSA, "RS384", RS384, &claims(&[])), bad),
        case("another's P-384 key of the same kid", signed_by(&OTHER_EC, "ES384", es384, &claims(&[])), bad),
        case("a P-256 signature that calls itself ES384", signed_by(&P256, "ES384", es384, &claims(&[])), bad),
        case("ES384 in DER", format!("{ec_message}.{}", b64(der)), bad),
        case("ES384, r and s swapped", format!("{ec_message}.{}", b64([&ec[48..], &ec[..48]].concat())), bad),
        case("ES384, truncated", format!("{ec_message}.{}", b64(&ec[..95])), bad),
        case("ES384, r only", format!("{ec_message}.{}", b64(&ec[..48])), bad),
        case("ES384, empty", format!("{ec_message}."), bad),
        case("an ES384 signature under an RSA header", format!("{message}.{}", b64(&ec)), bad),
    ];
    for (name, r, s) in [
        ("r = s = 0", &vec![0; 48], &vec![0; 48]),
        ("r = 0", &vec![0; 48], &one),
        ("s = 0", &one, &vec![0; 48]),
        ("r = s = 1", &one, &one),
        ("r = s = n", &order, &order),
        ("r = n, s = 0", &order, &vec![0; 48]),
        ("r = 1, s = n", &one, &order),
        ("r = s = all ones", &vec![255; 48], &vec![255; 48]),
    ] {
        all.push(case(format!("psychic ES384: {name}"), with_signature(es384, [&r[..], &s[..]].concat()), bad));
    }
    all
}

fn hostile_keys() -> Vec<Hostile> {
    let embedded = header_with(&format!(r#""jwk":{}"#, OTHER_RSA.jwk));
    let mut all = vec![case(
        "the attacker's key in the header",
        signed_by(&OTHER_RSA, "RS384", &embedded, &claims(&[])),
        BadAssertion::RefusedHeader,
    )];
    let own = header_with(&format!(r#""jwk":{}"#, RSA.jwk));
    all.push(case("the client's own key in the header", signed(&own, &claims(&[])), BadAssertion::RefusedHeader));
    for member in [
        r#""x5u":"https://evil.example/cert.pem""#,
        r#""x5c":["MIIB"]"#,
        r#""x5t":"AAAA""#,
        r#""x5t#S256":"AAAA""#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":[]"#,
        r#""b64":false,"crit":["b64"]"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""enc":"A256GCM""#,
        r#""cty":"JWT""#,
        r#""\u006awk":{}"#,
        r#""jwk":null"#,
    ] {
        let assertion = signed(&header_with(member), &claims(&[]));
        all.push(case(format!("header member {member}"), assertion, BadAssertion::RefusedHeader));
    }
    for jku in [
        "https://evil.example/jwks.json",
        "https://practice.example/jwks.json/",
        "https://practice.example/jwks.json?x=1",
        "https://practice.example/jwks.json#x",
        "https://practice.example/jwks",
        "https://practice.example:443/jwks.json",
        "https://practice.example@evil.example/jwks.json",
        "http://practice.example/jwks.json",
        "HTTPS://practice.example/jwks.json",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
    ] {
        let assertion = signed(&header_with(&format!(r#""jku":"{jku}""#)), &claims(&[]));
        all.push(case(format!("jku {jku:?}"), assertion, BadAssertion::KeySetUrl));
    }
    for jku in ["null", r#"["https://practice.example/jwks.json"]"#] {
        let assertion = signed(&header_with(&format!(r#""jku":{jku}"#)), &claims(&[]));
        all.push(case(format!("jku as {jku}"), assertion, BadAssertion::Header));
    }
    all.extend(hostile_kids());
    all
}

fn hostile_kids() -> Vec<Hostile> {
    let mut all = Vec::new();
    let long = "k".repeat(129);
    for (kid, reason) in [
        (r#""ec""#, BadAssertion::UnknownKey),
        (r#""RSA""#, BadAssertion::UnknownKey),
        (r#""rsa ""#, BadAssertion::UnknownKey),
        (r#""0""#, BadAssertion::UnknownKey),
        (r#""../../../../dev/null""#, BadAssertion::UnknownKey),
        (r#""/proc/self/environ""#, BadAssertion::UnknownKey),
        (r#""x' UNION SELECT 'key' -- ""#, BadAssertion::UnknownKey),
        (r#""rsa' OR '1'='1""#, BadAssertion::UnknownKey),
        (r#""https://evil.example/key""#, BadAssertion::UnknownKey),
        (r#""""#, BadAssertion::Kid),
        (r#""rsa\u0000""#, BadAssertion::Kid),
        (r#""rsa\n""#, BadAssertion::Kid),
        (r#""rs\u00e4""#, BadAssertion::Kid),
        (&format!("\"{long}\""), BadAssertion::Kid),
        ("1", BadAssertion::Header),
        ("null", BadAssertion::Header),
        (r#"["rsa"]"#, BadAssertion::Header),
    ] {
        let header = format!(r#"{{"alg":"RS384","kid":{kid},"typ":"JWT"}}"#);
        all.push(case(format!("kid {kid}"), signed(&header, &claims(&[])), reason));
    }
    all.push(case("no kid", signed(r#"{"alg":"RS384","typ":"JWT"}"#, &claims(&[])), BadAssertion::Header));
    let rsa_as_ec = r#"{"alg":"ES384","kid":"rsa","typ":"JWT"}"#;
    let ec = signed_by(&EC, "ES384", rsa_as_ec, &claims(&[]));
    all.push(case("ES384 with the kid of the RSA key", ec, BadAssertion::UnknownKey));
    all
}

fn hostile_forms() -> Vec<Hostile> {
    let good = signed(RS384, &claims(&[]));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let jwe = r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"rsa","cty":"JWT"}"#;
    let plain = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims(&[])));
    // The same octets with a bit set that base64 does not use.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let loose = format!("{}{next}", &signature[..signature.len() - 1]);
    let json_form = json!({"payload": payload, "protected": header, "signature": signature}).to_string();
    let bad = BadAssertion::Encoding;
    let mut all = vec![
        case("a JWE around an unsigned JWT", format!("{}.AA.AA.{}.AA", b64(jwe), b64(plain)), bad),
        case("JSON serialization", json_form, bad),
        case("signature with unused bits set", format!("{header}.{payload}.{loose}"), bad),
        case("padding", format!("{header}.{payload}.{signature}=="), bad),
        case("standard base64", format!("{header}.{payload}.{}+/", &signature[..signature.len() - 2]), bad),
    ];
    for (name, text) in [
        ("empty", String::new()),
        ("one dot", ".".into()),
        ("no signature part", format!("{header}.{payload}")),
        ("payload and signature only", format!("{payload}.{signature}")),
        ("a fourth part", format!("{good}.")),
        ("a fourth part in front", format!(".{good}")),
        ("a space in front", format!(" {good}")),
        ("a line end behind", format!("{good}\n")),
        ("a space within", format!("{header}. {payload}.{signature}")),
        ("a zero octet", format!("{good}\0")),
        ("Bearer in front", format!("Bearer {good}")),
        ("another script", format!("{header}.{payload}.\u{430}{signature}")),
    ] {
        all.push(case(name, text, bad));
    }
    all.push(case("two dots", "..".into(), BadAssertion::Header));
    let padded = claims(&[("padding", &format!("\"{}\"", "x".repeat(8192)))]);
    all.push(case("well signed, too long", signed(RS384, &padded), BadAssertion::TooLong));
    all.push(case("a megabyte", "A".repeat(1 << 20), BadAssertion::TooLong));
    all.extend(hostile_json());
    all
}

fn hostile_json() -> Vec<Hostile> {
    let mut all = Vec::new();
    for (header, reason) in [
        (r#"["RS384","rsa","JWT"]"#, BadAssertion::Header),
        (r#""RS384""#, BadAssertion::Header),
        ("null", BadAssertion::Header),
        (r#"{"alg":"RS384","kid":"rsa","typ":"JWT"}{}"#, BadAssertion::Header),
        ("\u{feff}{\"alg\":\"RS384\",\"kid\":\"rsa\",\"typ\":\"JWT\"}", BadAssertion::Header),
        (r#"{"alg":"RS384","kid":"rsa","typ":"JWT""#, BadAssertion::Header),
        (r#"{"alg":"none","alg":"RS384","kid":"rsa","typ":"JWT"}"#, BadAssertion::Repeated),
        (r#"{"alg":"RS384","\u0061lg":"RS384","kid":"rsa","typ":"JWT"}"#, BadAssertion::Repeated),
        (r#"{"alg":"RS384","kid":"other","kid":"rsa","typ":"JWT"}"#, BadAssertion::Repeated),
        (r#"{"alg":"RS384","kid":"rsa","typ":"JWT","x":{"y":1,"y":2}}"#, BadAssertion::Repeated),
        (r#"{"alg":"RS384","kid":"rsa"}"#, BadAssertion::Header),
        (r#"{"alg":"RS384","kid":"rsa","typ":null}"#, BadAssertion::Header),
        (r#"{"alg":"RS384","kid":"rsa","typ":"jwt"}"#, BadAssertion::Type),
        (r#"{"alg":"RS384","kid":"rsa","typ":"at+jwt"}"#, BadAssertion::Type),
        (r#"{"alg":"RS384","kid":"rsa","typ":"JOSE"}"#, BadAssertion::Type),
        (r#"{"alg":"RS384","kid":"rsa","typ":""}"#, BadAssertion::Type),
    ] {
        all.push(case(format!("header {header}"), signed(header, &claims(&[])), reason));
    }
    let again = |member: &str| claims(&[]).replacen('{', &format!("{{{member},"), 1);
    for (payload, reason) in [
        (format!(r#"["{CLIENT}","{CLIENT}","{AUDIENCE}","one",{}]"#, NOW + 240), BadAssertion::Claims),
        ("\"claims\"".into(), BadAssertion::Claims),
        (String::new(), BadAssertion::Claims),
        (format!("{} ", claims(&[])) + "x", BadAssertion::Claims),
        (again(r#""iss":"other""#), BadAssertion::Repeated),
        (again(r#""\u0073ub":"other""#), BadAssertion::Repeated),
        (again(r#""exp":9999999999"#), BadAssertion::Repeated),
        (again(r#""jti":"two""#), BadAssertion::Repeated),
        (again(r#""other":1,"other":1"#), BadAssertion::Repeated),
        (again(&format!(r#""deep":{}{}"#, "[".repeat(2000), "]".repeat(2000))), BadAssertion::Claims),
    ] {
        let name: String = format!("payload {payload}").chars().take(80).collect();
        all.push(case(name, signed(RS384, &payload), reason));
    }
    all
}

fn hostile_claims() -> Vec<Hostile> {
    let quoted = |text: &str| format!("\"{text}\"");
    let (past, edge) = ((NOW - 300).to_string(), (NOW - 5).to_string());
    let (beyond, day) = ((NOW + 306).to_string(), (NOW + 86400).to_string());
    let (text, fraction) = (quoted(&(NOW + 240).to_string()), format!("{}.5", NOW + 240));
    let (float, power) = (format!("{}.0", NOW + 240), "1.80000024e9".to_owned());
    let number = format!(r#"{{"$serde_json::private::Number":"{}"}}"#, NOW + 240);
    let millis = ((NOW + 240) * 1000).to_string();
    let (ahead, long_ago) = ((NOW + 6).to_string(), (NOW - 306).to_string());
    let (long, list) = (quoted(&"j".repeat(129)), format!("[\"{AUDIENCE}\"]"));
    let two = format!("[\"{AUDIENCE}\",\"https://other.example\"]");
    use BadAssertion as B;
    let mut changes: Vec<(&str, String, B)> = Vec::new();
    for other in
        ["other", "Practice-System", "practice-system ", "practice", "practice-system\\u0000", "", "*", "' OR 1=1 --"]
    {
        changes.push(("iss", quoted(other), B::Issuer));
        changes.push(("sub", quoted(other), B::Subject));
    }
    for (name, shape) in [("iss", CLIENT), ("sub", CLIENT), ("aud", AUDIENCE), ("jti", "one")] {
        for value in [String::new(), "null".into(), "1".into(), "true".into(), format!("[\"{shape}\"]"), "{}".into()] {
            changes.push((name, value, B::Claims));
        }
    }
    for other in [
        "https://livewell.example/oauth/token/",
        "https://livewell.example/oauth/token?x",
        "https://livewell.example/oauth/TOKEN",
        "https://LIVEWELL.example/oauth/token",
        "https://livewell.example:443/oauth/token",
        "http://livewell.example/oauth/token",
        "https://livewell.example/oauth",
        "https://livewell.example",
        "https://livewell.example/fhir",
        "https://practice.example/oauth/token",
        "https://livewell.example.evil.example/oauth/token",
        "",
    ] {
        changes.push(("aud", quoted(other), B::Audience));
    }
    changes.extend([("aud", list, B::Claims), ("aud", two, B::Claims)]);
    for value in
        ["", "null", "\"\"", "true", "[]", "1e400", "99999999999999999999", &text, &fraction, &float, &power, &number]
    {
        changes.push(("exp", value.to_owned(), B::Claims));
    }
    for value in ["0", "-1", "-9223372036854775808", &past, &edge] {
        changes.push(("exp", value.to_owned(), B::Expired));
    }
    for value in [&beyond, &day, &millis, "9223372036854775807"] {
        changes.push(("exp", value.to_owned(), B::TooLongLived));
    }
    for name in ["nbf", "iat"] {
        for value in ["null", "\"1\"", "1.5", "[1]", &text] {
            changes.push((name, value.to_owned(), B::Claims));
        }
    }
    changes.extend([("nbf", ahead.clone(), B::NotYet), ("nbf", "9223372036854775807".into(), B::NotYet)]);
    changes.extend([("iat", ahead, B::IssuedAhead), ("iat", "9223372036854775807".into(), B::IssuedAhead)]);
    changes.extend([("iat", long_ago, B::IssuedLongAgo), ("iat", "-9223372036854775808".into(), B::IssuedLongAgo)]);
    changes.extend([("jti", quoted(""), B::Jti), ("jti", long, B::Jti), ("jti", quoted("one\\u0000"), B::Jti)]);
    changes
        .into_iter()
        .map(|(name, value, reason)| {
            case(format!("{name} = {value:?}"), signed(RS384, &claims(&[(name, &value)])), reason)
        })
        .collect()
}

fn with_signature(header: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{}.{}.{}", b64(header), b64(claims(&[])), b64(signature))
}

fn keyed_hash(algorithm: hmac::Algorithm, header: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", b64(header), b64(claims(&[])));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
    format!("{message}.{}", b64(tag))
}

fn all() -> Vec<Hostile> {
    [hostile_algorithms(), hostile_signatures(), hostile_keys(), hostile_forms(), hostile_claims()].concat()
}

#[test]
fn no_hostile_assertion_is_accepted_and_all_get_the_same_answer() {
    let all = all();
    let answer = OAuthError::InvalidClient.body().to_string();
    for (name, assertion, reason) in &all {
        let said = check(assertion, Some(JWKS_URL));
        assert_eq!(said, Err(*reason), "{name}");
        assert_eq!(OAuthError::from(*reason).body().to_string(), answer, "{name}");
    }
    println!("{} hostile assertions, 0 accepted", all.len());
    assert!(all.len() >= 200, "{}", all.len());
}

#[test]
fn every_reason_has_its_own_code_in_the_audit_log() {
    let all = all();
    let reasons: HashSet<BadAssertion> = all.iter().map(|(_, _, reason)| *reason).collect();
    let codes: HashSet<&str> = reasons.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), reasons.len());
    // All but `ClientId`, which concerns the form around the assertion.
    assert_eq!(reasons.len(), 21);
}
