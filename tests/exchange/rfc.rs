//! The examples of RFC 7515 (JWS) and RFC 7516 (JWE) that are of the profile count; all the others
//! are refused. The Concat KDF's example (RFC 7518, appendix C) stands in `exchange::jwe`.

use cardless::exchange::{PublicKey, Received, jwe, jws};

/// RFC 7515, appendix A.3: `ES256`.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

const ES256_KEY: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

#[test]
fn the_es256_example_of_rfc_7515_verifies() {
    let key = &PublicKey::read_all(ES256_KEY).unwrap()[0];
    let payload = jws::Unverified::parse(ES256).unwrap().verify(key).unwrap();
    assert!(payload.starts_with(b"{\"iss\":\"joe\",\r\n"));
    let altered = ES256.replace("DtEh", "DtEi");
    let altered = jws::Unverified::parse(&altered).unwrap();
    assert!(altered.verify(key).is_err());
}

/// RFC 7515, appendices A.1 (`HS256`) and A.5 (`none`).
#[test]
fn the_other_examples_of_rfc_7515_are_refused() {
    for other in [
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
         dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "eyJhbGciOiJub25lIn0.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    ] {
        assert!(jws::Unverified::parse(other).is_err(), "{other}");
    }
}

/// RFC 7516, appendix A: the headers of `RSA-OAEP`, `RSA1_5` and `A128KW`, each with an encrypted
/// key; and appendix C of RFC 7518, whose header is `ECDH-ES` with `A128GCM`.
#[test]
fn the_examples_of_rfc_7516_are_refused() {
    let epk = r#"{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
        "y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}"#;
    for header in [
        r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#.to_owned(),
        r#"{"alg":"RSA1_5","enc":"A128CBC-HS256"}"#.to_owned(),
        r#"{"alg":"A128KW","enc":"A128CBC-HS256"}"#.to_owned(),
        format!(r#"{{"alg":"ECDH-ES","enc":"A128GCM","apu":"QWxpY2U","apv":"Qm9i","epk":{epk}}}"#),
    ] {
        let header = crate::forge::b64(header);
        for key in [
            "",
            "OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe",
        ] {
            let message = format!(
                "{header}.{key}.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4v\
                 pzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A.XFBoMYUZodetZdvTiFvSkQ"
            );
            assert!(jwe::Unopened::parse(&message).is_err());
            assert!(Received::parse(&message).is_err());
        }
    }
}
