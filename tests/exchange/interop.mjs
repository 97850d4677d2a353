// Seals and opens messages of gw-jwe-1 with jose, as a second opinion on ours. It speaks as
// interop.py does, which describes the lines. `interop.mjs probe` succeeds if jose is installed: in
// the folder that CARDLESS_NODE_MODULES names, else where Node finds it.

import { createHash, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const folder = process.env.CARDLESS_NODE_MODULES;
const jose = await import(
  folder ? pathToFileURL(createRequire(`${folder}/`).resolve("jose")).href : "jose"
);

const MAX_AGE_SECONDS = 120;

const stranger = await generate("sig");
let signing;
let receiving;

const deeds = {
  async pairs({ one }) {
    signing = await generate(one ? undefined : "sig");
    receiving = one ? signing : await generate("enc");
    const keys = one ? [signing] : [signing, receiving];
    return { keys: keys.map(({ d, ...shown }) => shown) };
  },

  async seal({ claims, inner, outer, to, signer }) {
    const pair = signer === "stranger" ? stranger : signing;
    const signed = await new jose.SignJWT(claims)
      .setProtectedHeader(inner)
      .sign(await jose.importJWK(pair, "ES256"));
    const message = await new jose.CompactEncrypt(new TextEncoder().encode(signed))
      .setProtectedHeader(outer)
      .encrypt(await jose.importJWK({ ...to, alg: undefined }, outer.alg));
    return { message, hash: digest(message) };
  },

  async open({ message, from, iss, aud, now }) {
    const { plaintext, protectedHeader } = await jose.compactDecrypt(
      message,
      await jose.importJWK(receiving, "ECDH-ES"),
      { keyManagementAlgorithms: ["ECDH-ES"], contentEncryptionAlgorithms: ["A256GCM"] },
    );
    if (protectedHeader.kid !== receiving.kid || protectedHeader.cty !== "JWT") {
      throw new Error("the header is not of the profile");
    }
    const { payload } = await jose.jwtVerify(
      plaintext,
      jose.createLocalJWKSet({ keys: from }),
      {
        algorithms: ["ES256"],
        typ: "JWT",
        issuer: iss,
        audience: aud,
        currentDate: new Date(now * 1000),
        maxTokenAge: MAX_AGE_SECONDS,
        requiredClaims: ["exp", "jti"],
      },
    );
    return { claims: payload, hash: digest(message) };
  },
};

async function generate(use) {
  const { privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y, d } = await jose.exportJWK(privateKey);
  return { kty, crv, x, y, d, kid: randomUUID(), ...(use && { use }) };
}

function digest(message) {
  return createHash("sha256").update(message).digest("base64url");
}

if (process.argv[2] !== "probe") {
  for await (const line of createInterface({ input: process.stdin })) {
    const task = JSON.parse(line);
    let answer;
    try {
      answer = await deeds[task.do](task);
    } catch (error) {
      // Whatever the reason, it is refused; the test names it.
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
