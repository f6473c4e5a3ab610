//! Tokens (JWT) for devices where operators run NATS with an operator, accounts and their signing keys.
//!
//! The account's own token has the permissions, as the scope of one of its signing keys. The server fills in the name and
//! the key of the token of a user that this key signed, and refuses such a token when it brings permissions of its own.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use iot_contracts::{DeviceId, DevicePermissions, UserKey, device_services};
use nkeys::{KeyPair, KeyPairType};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha512_256};
use time::OffsetDateTime;

use super::PlatformError;

/// The role of the scope, which has no effect.
const ROLE: &str = "device";
/// The most subscriptions of a device; it has about five.
const MAX_SUBSCRIPTIONS: u32 = 100;

/// Signs the tokens of devices with a signing key of their account, whose scope is [`devices_scope`].
pub struct DeviceTokens {
    account: String,
    signer: KeyPair,
}

impl fmt::Debug for DeviceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signer = self.signer.public_key();
        let mut shown = f.debug_struct("DeviceTokens");
        shown
            .field("account", &self.account)
            .field("signer", &signer);
        shown.finish_non_exhaustive()
    }
}

impl DeviceTokens {
    /// For the account with this public key, by the seed of one of its signing keys.
    ///
    /// # Errors
    /// [`PlatformError::Token`] when one of them is no account's key, or the seed is the account's own: a token signed
    /// by that has no scope, and would permit everything.
    pub fn new(account: &str, seed: &str) -> Result<Self, PlatformError> {
        let refused = |reason: &'static str| PlatformError::Token { reason };
        let own = KeyPair::from_public_key(account);
        let own = own
            .ok()
            .filter(|key| key.key_pair_type() == KeyPairType::Account);
        let own = own.ok_or(refused("the account is none (expected its public key, A…)"))?;
        let signer = KeyPair::from_seed(seed.trim());
        let signer = signer
            .ok()
            .filter(|key| key.key_pair_type() == KeyPairType::Account);
        let signer = signer.ok_or(refused(
            "the signing key is none (expected the seed of an account's signing key, SA…)",
        ))?;
        if signer.public_key() == own.public_key() {
            return Err(refused(
                "the signing key is the account's own (expected one with the devices' scope)",
            ));
        }
        Ok(Self {
            account: own.public_key(),
            signer,
        })
    }

    /// The token of a device, which is of no use without the private half of its key. It ends at `expires`, if given.
    ///
    /// # Errors
    /// [`PlatformError::Token`] when it cannot be signed.
    pub fn token(
        &self,
        device_id: &DeviceId,
        key: &UserKey,
        expires: Option<OffsetDateTime>,
    ) -> Result<String, PlatformError> {
        let claims = Claims {
            expires: expires.map(OffsetDateTime::unix_timestamp),
            name: device_id.as_str(),
            subject: key.as_str(),
            nats: json!({ "type": "user", "version": 2, "issuer_account": self.account }),
        };
        claims.signed(&self.signer)
    }
}

/// What a token says.
pub(super) struct Claims<'a> {
    pub(super) expires: Option<i64>,
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
    pub(super) nats: Value,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    iat: i64,
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    name: &'a str,
    nats: &'a Value,
    sub: &'a str,
}

impl Claims<'_> {
    /// As NATS reads it: signed with ed25519, its id the digest of the rest.
    pub(super) fn signed(&self, signer: &KeyPair) -> Result<String, PlatformError> {
        let refused = |reason: &'static str| PlatformError::Token { reason };
        let mut body = Body {
            exp: self.expires,
            iat: OffsetDateTime::now_utc().unix_timestamp(),
            iss: signer.public_key(),
            jti: None,
            name: self.name,
            nats: &self.nats,
            sub: self.subject,
        };
        let json = |body: &Body<'_>| serde_json::to_vec(body).map_err(|_| refused("no JSON"));
        body.jti = Some(BASE32_NOPAD.encode(&Sha512_256::digest(json(&body)?)));
        let head = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let text = format!("{head}.{}", BASE64URL_NOPAD.encode(&json(&body)?));
        let signature = signer.sign(text.as_bytes());
        let signature = signature.map_err(|_| refused("the key cannot sign"))?;
        Ok(format!("{text}.{}", BASE64URL_NOPAD.encode(&signature)))
    }
}

/// An entry for `signing_keys` in the token of the devices' account: what users may do that this key signed.
pub fn devices_scope(signing_key: &str) -> Value {
    let may = DevicePermissions::template();
    json!({ "kind": "user_scope", "key": signing_key, "role": ROLE, "template": {
        "pub": { "allow": may.publish }, "sub": { "allow": may.subscribe },
        "subs": MAX_SUBSCRIPTIONS, "data": -1, "payload": -1,
    }})
}

/// `exports` in the token of the account with the buckets.
pub fn platform_exports() -> Value {
    let exports = device_services().into_iter().map(|service| {
        let answers = if service.is_stream { "Stream" } else { "Singleton" };
        json!({ "name": service.subject, "subject": service.subject, "type": "service", "response_type": answers })
    });
    exports.collect()
}

/// `imports` in the token of the devices' account, from the account with the buckets.
pub fn devices_imports(platform_account: &str) -> Value {
    let imports = device_services().into_iter().map(|service| {
        json!({ "name": service.subject, "subject": service.subject, "type": "service",
            "account": platform_account, "local_subject": service.subject })
    });
    imports.collect()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use iot_contracts::{DeviceId, UserKey};
    use nkeys::KeyPair;
    use serde_json::Value;

    use super::{DeviceTokens, PlatformError};

    #[test]
    fn a_token_is_signed_and_permits_nothing_by_itself() {
        let (account, signer) = (KeyPair::new_account(), KeyPair::new_account());
        let seed = signer.seed().expect("it has one");
        let tokens = DeviceTokens::new(&account.public_key(), &seed).expect("valid");
        let key: UserKey = KeyPair::new_user().public_key().parse().expect("valid");
        let id: DeviceId = "pi-1".parse().expect("valid");
        let token = tokens.token(&id, &key, None).expect("signed");
        let (text, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("valid");
        signer.verify(text.as_bytes(), &signature).expect("its own");
        let body = text.split_once('.').expect("two parts").1;
        let body = BASE64URL_NOPAD.decode(body.as_bytes()).expect("valid");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["name"], "pi-1");
        assert_eq!(body["sub"], key.as_str());
        assert_eq!(body["iss"], signer.public_key());
        assert_eq!(
            body["nats"],
            serde_json::json!({ "type": "user", "version": 2, "issuer_account": account.public_key() })
        );
    }

    #[test]
    fn an_account_itself_signs_no_device() {
        let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
        let (public, own) = (account.public_key(), account.seed().expect("it has one"));
        let signer = KeyPair::new_account().seed().expect("it has one");
        let of_a_user = user.seed().expect("it has one");
        for (account, seed) in [
            (public.as_str(), own.as_str()),
            (&public, &of_a_user),
            (&public, "hunter2"),
            (&user.public_key(), &signer),
        ] {
            let refused = DeviceTokens::new(account, seed).map(drop);
            let Err(error @ PlatformError::Token { .. }) = refused else {
                panic!("{refused:?}");
            };
            assert!(!error.to_string().contains(seed), "{error}");
        }
    }
}
