"""Reads and writes a file of tokens with joserfc, as a second opinion on ours, and as an example of
how any system writes one.

`transfer.py probe` succeeds if joserfc is installed. Otherwise standard input is one JSON object:

    {"read": {"file", "key", "sender"}}                               -> {"lines": [claims]}
    {"write": {"file", "key", "recipient", "export", "iat", "records"}}  -> {}

A key is a JWK; `key` is one's own and private, the others are public. The SHA-256 in the last line
is over every line before it, with its line feed.
"""

import base64
import hashlib
import json
import sys

from joserfc import jwe, jws
from joserfc.jwk import ECKey

TYP = "cardless-tokens+jwt"
PER_LINE = 50


def write(file, key, recipient, export, iat, records):
    signer, to = ECKey.import_key(key), ECKey.import_key(recipient)
    seen, lines = hashlib.sha256(), 0
    jws_registry = jws.JWSRegistry(algorithms=["ES256"])
    jwe_registry = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM"])
    with open(file, "xb") as out:

        def line(**part):
            nonlocal lines
            claims = {"aud": to.thumbprint(), "export": export, "seq": lines, **part}
            header = {"alg": "ES256", "kid": key["kid"], "typ": TYP}
            signed = jws.serialize_compact(header, json.dumps(claims), signer, registry=jws_registry)
            header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": recipient["kid"], "typ": TYP, "cty": "JWT"}
            sealed = jwe.encrypt_compact(header, signed, to, registry=jwe_registry).encode() + b"\n"
            seen.update(sealed)
            out.write(sealed)
            lines += 1

        line(header={"version": 1, "from": "the old billing system", "iat": iat})
        for at in range(0, len(records), PER_LINE):
            line(records=records[at : at + PER_LINE])
        digest = base64.urlsafe_b64encode(seen.digest()).rstrip(b"=").decode()
        line(end={"records": len(records), "sha256": digest})
    return {}


def read(file, key, sender):
    ours, theirs = ECKey.import_key(key), ECKey.import_key(sender)
    lines = []
    with open(file, encoding="ascii") as text:
        for sealed in text:
            opened = jwe.decrypt_compact(sealed.rstrip("\n"), ours, algorithms=["ECDH-ES", "A256GCM"])
            signed = jws.deserialize_compact(opened.plaintext, theirs, algorithms=["ES256"])
            assert opened.protected["typ"] == TYP and signed.protected["typ"] == TYP
            lines.append(json.loads(signed.payload))
    return {"lines": lines}


def main():
    if sys.argv[1:] == ["probe"]:
        return
    task = json.load(sys.stdin)
    answer = read(**task["read"]) if "read" in task else write(**task["write"])
    json.dump(answer, sys.stdout)


main()
