"""Seals and opens records with the AWS Encryption SDK for Python, as a second opinion on ours.

`interop.py probe` succeeds if the SDK and its material providers are installed. Otherwise standard
input is one JSON object and standard output another; all byte strings are base64:

    {"namespace", "key_name", "key", "frame_length",
     "open": [{"context": {…}, "message"}], "seal": [{"context": {…}, "plaintext"}]}
    {"open": [{"plaintext"} or {"error"}], "seal": [{"message"}]}

With "second_key" and "second_key_name" a message can be opened by either of two keys.

All of the context is "required encryption context": authenticated, not stored in the message.
"""

import base64
import json
import logging
import sys

import aws_encryption_sdk
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    AesWrappingAlg,
    CreateDefaultCryptographicMaterialsManagerInput,
    CreateMultiKeyringInput,
    CreateRawAesKeyringInput,
    CreateRequiredEncryptionContextCMMInput,
)
from aws_encryption_sdk import CommitmentPolicy
from aws_encryption_sdk.identifiers import AlgorithmSuite

SUITE = AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY


def main():
    # The SDK logs a trace for every record that does not open, which is what some tests expect.
    logging.disable(logging.CRITICAL)
    task = json.load(sys.stdin)
    sdk = Sdk(task)
    answer = {
        "open": [sdk.open(record) for record in task["open"]],
        "seal": [sdk.seal(record) for record in task["seal"]],
    }
    json.dump(answer, sys.stdout)


class Sdk:
    def __init__(self, task):
        self.frame_length = task["frame_length"]
        self.client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self.providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
        self.keyring = self.raw_keyring(task["namespace"], task["key_name"], task["key"])
        if "second_key" in task:
            second = self.raw_keyring(
                task["namespace"], task["second_key_name"], task["second_key"]
            )
            self.keyring = self.providers.create_multi_keyring(
                input=CreateMultiKeyringInput(generator=self.keyring, child_keyrings=[second])
            )

    def raw_keyring(self, namespace, name, key):
        return self.providers.create_raw_aes_keyring(
            input=CreateRawAesKeyringInput(
                key_namespace=namespace,
                key_name=name,
                wrapping_key=base64.b64decode(key),
                wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
            )
        )

    def manager(self, context):
        """A materials manager that requires every key of the context at both ends."""
        underlying = self.providers.create_default_cryptographic_materials_manager(
            CreateDefaultCryptographicMaterialsManagerInput(keyring=self.keyring)
        )
        return self.providers.create_required_encryption_context_cmm(
            CreateRequiredEncryptionContextCMMInput(
                required_encryption_context_keys=sorted(context),
                underlying_cmm=underlying,
            )
        )

    def seal(self, record):
        message, header = self.client.encrypt(
            source=base64.b64decode(record["plaintext"]),
            materials_manager=self.manager(record["context"]),
            encryption_context=record["context"],
            algorithm=SUITE,
            frame_length=self.frame_length,
        )
        if header.encryption_context:
            raise AssertionError("the message stores its context")
        return {"message": base64.b64encode(message).decode()}

    def open(self, record):
        try:
            plaintext, _ = self.client.decrypt(
                source=base64.b64decode(record["message"]),
                materials_manager=self.manager(record["context"]),
                encryption_context=record["context"],
            )
        except Exception as error:  # Whatever the reason, it did not open; the test names it.
            return {"error": type(error).__name__}
        return {"plaintext": base64.b64encode(plaintext).decode()}


if __name__ == "__main__" and sys.argv[1:] != ["probe"]:
    main()
