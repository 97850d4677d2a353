"""Seals and opens messages of gw-jwe-1 with joserfc, as a second opinion on ours.

`interop.py probe` succeeds if joserfc is installed. Otherwise each line of standard input is one
JSON object, and is answered by one line on standard output, or by {"error"}:

    {"do": "pairs", "one": false}                  -> {"keys": [JWK, …]}, public; the private ones stay
    {"do": "seal", "claims", "inner", "outer", "to"} -> {"message", "hash"}
    {"do": "open", "message", "from": [JWK, …], "iss", "aud", "now"} -> {"claims", "hash"}

`inner` and `outer` are the headers as they are to be, `to` is a JWK. `"signer": "stranger"` signs
with a pair that nobody knows. `hash` is the base64url SHA-256 of the message.
"""

import base64
import hashlib
import json
import sys
import uuid

from joserfc import jwe, jws, jwt
from joserfc.jwk import ECKey

# What is accepted, and what is made: wrong messages need other algorithms.
ENCRYPTION = ["ECDH-ES", "A256GCM"]
ANY_ENCRYPTION = ENCRYPTION + ["ECDH-ES+A256KW", "A128GCM", "A256CBC-HS512"]
SIGNATURE = ["ES256"]
# The library takes 64 KiB of ciphertext unless it is told otherwise; an answer can be longer.
MAX_MESSAGE_BYTES = 1024 * 1024


def main():
    party = Party()
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = getattr(party, task["do"])(task)
        except Exception as error:  # Whatever the reason, it is refused; the test names it.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def generate(use):
    parameters = {"kid": str(uuid.uuid4())} | ({"use": use} if use else {})
    return ECKey.generate_key("P-256", parameters)


def digest(message):
    return base64.urlsafe_b64encode(hashlib.sha256(message.encode()).digest()).rstrip(b"=").decode()


def jwe_registry(algorithms):
    registry = jwe.JWERegistry(algorithms=algorithms)
    registry.max_ciphertext_length = MAX_MESSAGE_BYTES
    return registry


def jws_registry():
    registry = jws.JWSRegistry(algorithms=SIGNATURE)
    registry.max_payload_length = MAX_MESSAGE_BYTES
    return registry


class Party:
    def __init__(self):
        self.stranger = generate("sig")
        self.signing = self.receiving = None

    def pairs(self, task):
        self.signing = generate(None if task["one"] else "sig")
        self.receiving = self.signing if task["one"] else generate("enc")
        keys = [self.signing] if task["one"] else [self.signing, self.receiving]
        return {"keys": [key.as_dict(private=False) for key in keys]}

    def seal(self, task):
        signer = self.stranger if task.get("signer") == "stranger" else self.signing
        to = ECKey.import_key({**task["to"], "kid": task["outer"].get("kid", "none")})
        # A `typ` that is left out stays out.
        signed = jwt.encode(
            task["inner"], task["claims"], signer, registry=jws_registry(), default_type=None
        )
        registry = jwe_registry(ANY_ENCRYPTION)
        message = jwe.encrypt_compact(task["outer"], signed, to, registry=registry)
        return {"message": message, "hash": digest(message)}

    def open(self, task):
        outer = jwe.decrypt_compact(
            task["message"], self.receiving, registry=jwe_registry(ENCRYPTION)
        )
        if outer.headers()["kid"] != self.receiving.kid or outer.headers()["cty"] != "JWT":
            raise ValueError("the header is not of the profile")
        header = jws.extract_compact(outer.plaintext, registry=jws_registry()).headers()
        key = next(key for key in task["from"] if key["kid"] == header["kid"])
        token = jwt.decode(outer.plaintext, ECKey.import_key(key), registry=jws_registry())
        jwt.JWTClaimsRegistry(
            now=task["now"],
            iss={"essential": True, "value": task["iss"]},
            aud={"essential": True, "value": task["aud"]},
            iat={"essential": True},
            exp={"essential": True},
            jti={"essential": True},
        ).validate(token.claims)
        return {"claims": token.claims, "hash": digest(task["message"])}


if __name__ == "__main__" and sys.argv[1:] != ["probe"]:
    main()
