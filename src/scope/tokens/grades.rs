//! Each kind of token, handle and key, and what it is worth to a thief: one list, written by people.
//! How many there are and how they are kept is read from the store; that the control stands is
//! shown by other statements of the same report.

use std::fmt;

/// What something is worth to somebody who has stolen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// It can start a charge: a high-value token, in the words of PCI.
    HighValue,
    /// It lets somebody in, or opens what is sealed.
    Secret,
    /// It names something, and does nothing by itself.
    Name,
    /// Nothing: it is public, or can't be turned back.
    Nothing,
}

/// How it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// The values of a column.
    Values(&'static str, &'static str),
    /// Those values of a column that are this word.
    Word(&'static str, &'static str, &'static str),
    /// The API keys that are good, those that are being replaced too.
    ApiKeys,
    /// The public keys that are not revoked, of clients that are not.
    PublicKeys,
    /// The generations that are not destroyed.
    Generations,
    /// The live values of the settings that begin so.
    Settings(&'static [&'static str]),
    /// It is nowhere in the store: made anew from a key each time it is needed.
    Nowhere,
}

/// A kind of token, handle or key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// What it is called.
    pub(super) name: &'static str,
    pub(super) grade: Grade,
    pub(super) counted: Counted,
    /// The columns in which it, or what was made of it, stands.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Where else it is.
    pub(super) elsewhere: &'static str,
    /// What a thief can do with it alone.
    pub(super) alone: &'static str,
    /// With what it gets worse.
    pub(super) with: &'static str,
    /// What stops that.
    pub(super) control: &'static str,
    /// The statements that show the control.
    pub(super) shown_by: &'static [&'static str],
}

impl Grade {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HighValue => "high-value: can start a charge",
            Self::Secret => "secret",
            Self::Name => "name",
            Self::Nothing => "worth nothing",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a generation whose key is gone.
pub(super) const DESTROYED: &str = "destroyed";

/// The column that says whose token a record holds.
pub(super) const RECORD_PROVIDER: (&str, &str) = ("records", "provider");

const RECORDS: &[(&str, &str)] = &[("records", "sealed")];
const TOKEN_ALONE: &str =
    "nothing: the provider takes it from this merchant only, and with its credentials";
const TOKEN_WITH: &str = "with a live credential of the same merchant: charges the customer, in favour of this \
                          merchant";
const TOKEN_CONTROL: &str = "sealed under the key-encryption key, which is not in the store; credentials are \
                             replaceable without a pause";
const TOKEN_SHOWN_BY: &[&str] = &["data-4", "data-5", "access-4"];

/// All of them, what is worth most first.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "PostFinance token",
        grade: Grade::HighValue,
        counted: Counted::Word("records", "provider", "postfinance"),
        columns: RECORDS,
        elsewhere: "at PostFinance",
        alone: TOKEN_ALONE,
        with: TOKEN_WITH,
        control: TOKEN_CONTROL,
        shown_by: TOKEN_SHOWN_BY,
    },
    Kind {
        name: "PayPal payment token or billing agreement",
        grade: Grade::HighValue,
        counted: Counted::Word("records", "provider", "paypal"),
        columns: RECORDS,
        elsewhere: "at PayPal",
        alone: TOKEN_ALONE,
        with: TOKEN_WITH,
        control: TOKEN_CONTROL,
        shown_by: TOKEN_SHOWN_BY,
    },
    Kind {
        name: "Aduno alias",
        grade: Grade::HighValue,
        counted: Counted::Word("records", "provider", "aduno"),
        columns: RECORDS,
        elsewhere: "at Datatrans",
        alone: TOKEN_ALONE,
        with: TOKEN_WITH,
        control: TOKEN_CONTROL,
        shown_by: TOKEN_SHOWN_BY,
    },
    Kind {
        name: "API key of a client (ck_)",
        grade: Grade::Secret,
        counted: Counted::ApiKeys,
        columns: &[("clients", "key_hash"), ("old_api_keys", "key_hash")],
        elsewhere: "at the client",
        alone: "all that the client's role may: with billing, charges of linked accounts in favour of this \
                merchant, and refunds to whoever was charged",
        with: "it needs nothing more; the names of accounts and methods are read with it",
        control: "kept as a keyed hash; one role for each client; revoked or renewed at once; what is \
                  refused is audited",
        shown_by: &["access-1", "access-2", "access-3", "logs-3"],
    },
    Kind {
        name: "private key of a sealed client",
        grade: Grade::Secret,
        counted: Counted::PublicKeys,
        columns: &[
            ("client_keys", "kid"),
            ("client_keys", "thumbprint"),
            ("client_keys", "point"),
            ("client_keys", "mac"),
            ("exchange_messages", "jti"),
        ],
        elsewhere: "at the client; here is the public half, with a MAC that binds it to name and role",
        alone: "as an API key, by sealed messages",
        with: "it needs nothing more",
        control: "never here; a message counts once; a key is revoked at once",
        shown_by: &["access-2", "access-3"],
    },
    Kind {
        name: "credential at a provider",
        grade: Grade::Secret,
        counted: Counted::Settings(&[
            "providers.postfinance.authentication_key",
            "providers.paypal.client_secret",
            "providers.aduno.password",
        ]),
        columns: &[],
        elsewhere: "in the settings, or where they point to",
        alone: "reads and refunds payments of this merchant at the provider",
        with: "with provider tokens: charges their customers",
        control: "not in the store; two live at once, so that it is replaced without a pause",
        shown_by: &["settings-2", "access-4"],
    },
    Kind {
        name: "secret of webhooks and of events",
        grade: Grade::Secret,
        counted: Counted::Settings(&[
            "providers.paypal.webhook_id",
            "providers.aduno.webhook_key",
            "events.secret",
        ]),
        columns: &[("webhooks", "event")],
        elsewhere: "in the settings, or where they point to; at the provider, and at the receiver of events",
        alone: "makes this service ask the provider, which tells the truth; makes a receiver of events \
                believe one until it asks",
        with: "nothing gets worse: no body is believed",
        control: "what a webhook is about is read from the provider",
        shown_by: &["settings-2", "access-4"],
    },
    Kind {
        name: "key file: key-encryption keys",
        grade: Grade::Secret,
        counted: Counted::Generations,
        columns: &[("generations", "id"), ("exchange_generations", "id")],
        elsewhere: "in the key file only; the store has its generations' names",
        alone: "nothing: what is sealed is in the store",
        with: "with the store or a backup of it: opens every token and account id; and passes for this \
               service in the sealed exchange",
        control: "never in the store or its backups; rotated, and old generations are destroyed",
        shown_by: &["data-5", "crypto-2", "crypto-3"],
    },
    Kind {
        name: "key file: audit key",
        grade: Grade::Secret,
        counted: Counted::Values("audit_head", "mac"),
        columns: &[
            ("audit_head", "last"),
            ("audit_head", "mac"),
            ("audit_lines", "mac"),
        ],
        elsewhere: "in the key file only; the store has what was made with it",
        alone: "signs a false report",
        with: "with write access to the store: makes an audit log that verifies",
        control: "never in the store; a head that was noted elsewhere gives a log away that was made anew",
        shown_by: &["logs-2"],
    },
    Kind {
        name: "address of a provider's page for a customer",
        grade: Grade::Secret,
        counted: Counted::Values("setups", "redirect"),
        columns: &[("setups", "redirect"), ("payments", "redirect")],
        elsewhere: "at the customer's browser, for some minutes",
        alone: "shows the page that the customer sees, while it is open",
        with: "with the customer's own login at the provider: approves in the customer's place",
        control: "sealed; it ends with the setup",
        shown_by: &["data-4"],
    },
    Kind {
        name: "return address of a setup or payment",
        grade: Grade::Name,
        counted: Counted::Nowhere,
        columns: &[],
        elsewhere: "at the customer's browser and at the provider; made from a key each time",
        alone: "makes this service ask the provider how the customer has decided",
        with: "nothing gets worse: the provider's answer counts, and not who comes back",
        control: "it carries a MAC of its object; it does nothing that asking would not",
        shown_by: &["access-1"],
    },
    Kind {
        name: "handle of a payment method (pm_)",
        grade: Grade::Name,
        counted: Counted::Values("payment_methods", "handle"),
        columns: &[
            ("payment_methods", "id"),
            ("payment_methods", "record"),
            ("payment_methods", "handle"),
            ("old_handles", "handle"),
            ("old_handles", "method"),
            ("records", "id"),
            ("records", "generation"),
            ("payments", "method"),
            ("payments", "handle"),
            ("setups", "method"),
        ],
        elsewhere: "at the billing service",
        alone: "nothing: it is random, and no provider knows it",
        with: "with an API key of role billing, and the account's id: a charge in favour of this merchant",
        control: "it is good for its own account only; handles are issued anew with an overlap",
        shown_by: &["access-1", "access-2"],
    },
    Kind {
        name: "handle of a payment (pay_)",
        grade: Grade::Name,
        counted: Counted::Values("payments", "id"),
        columns: &[
            ("payments", "id"),
            ("payments", "redirect_generation"),
            ("operations", "payment"),
            ("resolutions", "payment"),
            ("setups", "payment"),
        ],
        elsewhere: "at the billing service; without its prefix, as the reference at the provider",
        alone: "nothing",
        with: "with an API key: reads the payment; with role billing, gives it back to whoever has paid",
        control: "the role; amounts never exceed what was taken",
        shown_by: &["access-1", "access-2"],
    },
    Kind {
        name: "handle of a setup (set_)",
        grade: Grade::Name,
        counted: Counted::Values("setups", "id"),
        columns: &[
            ("setups", "id"),
            ("setups", "redirect_generation"),
            ("payments", "setup"),
        ],
        elsewhere: "at the billing service, and in the address that a browser comes back with",
        alone: "nothing",
        with: "with an API key: reads the setup, and the address of its page while it is open",
        control: "the role; a setup ends by itself",
        shown_by: &["access-1", "access-2"],
    },
    Kind {
        name: "handle of a capture, void or refund (cap_, void_, ref_)",
        grade: Grade::Name,
        counted: Counted::Values("operations", "id"),
        columns: &[("operations", "id")],
        elsewhere: "at the billing service",
        alone: "nothing",
        with: "with an API key: reads it",
        control: "the role",
        shown_by: &["access-1", "access-2"],
    },
    Kind {
        name: "provider's own id of a transaction or setup",
        grade: Grade::Name,
        counted: Counted::Values("payments", "reservation"),
        columns: &[
            ("payments", "reservation"),
            ("payments", "authorization_id"),
            ("payments", "capture_object"),
            ("operations", "object"),
            ("operations", "capture_object"),
            ("setups", "reference"),
            ("last_answers", "correlation"),
            ("merchants", "merchant"),
            ("records", "merchant"),
        ],
        elsewhere: "at the provider",
        alone: "nothing",
        with: "with a credential of the merchant: reads the transaction, or refunds it",
        control: "credentials are not in the store",
        shown_by: &["settings-2", "access-4"],
    },
    Kind {
        name: "account id, and its pseudonym",
        grade: Grade::Name,
        counted: Counted::Values("accounts", "account"),
        columns: &[
            ("accounts", "account"),
            ("accounts", "sealed_id"),
            ("accounts", "generation"),
            ("erasures", "account"),
            ("erasures", "subject"),
            ("events", "account"),
            ("last_answers", "account"),
            ("old_handles", "account"),
            ("operations", "account"),
            ("payment_methods", "account"),
            ("payments", "account"),
            ("records", "account"),
            ("resolutions", "account"),
            ("setups", "account"),
        ],
        elsewhere: "at the billing service",
        alone: "tells which rows are one account's; it is pseudonymous, and personal data all the same",
        with: "with the key file: the account's id at the billing service",
        control: "a keyed hash; the id itself is kept once, sealed",
        shown_by: &["data-1", "data-4"],
    },
    Kind {
        name: "Idempotency-Key",
        grade: Grade::Nothing,
        counted: Counted::Values("request_keys", "key"),
        columns: &[
            ("request_keys", "key"),
            ("request_keys", "digest"),
            ("request_keys", "object"),
            ("payments", "body_mac"),
        ],
        elsewhere: "at the billing service",
        alone: "nothing",
        with: "with the API key of the same client: the same answer once more",
        control: "kept as a keyed hash, for 400 days",
        shown_by: &["data-1", "data-6"],
    },
    Kind {
        name: "handle of an event, a rotation or an erasure",
        grade: Grade::Nothing,
        counted: Counted::Values("events", "id"),
        columns: &[
            ("events", "id"),
            ("events", "object"),
            ("events", "replaces"),
            ("events", "topic"),
            ("held_topics", "topic"),
            ("rotations", "id"),
            ("rotations", "parameter"),
            ("rotations", "place"),
            ("erasures", "id"),
            ("last_answers", "object"),
            ("resolutions", "object"),
        ],
        elsewhere: "at the billing service",
        alone: "nothing",
        with: "nothing gets worse",
        control: "it is random, and no call takes it but to read on",
        shown_by: &["data-1"],
    },
];
