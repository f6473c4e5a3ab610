//! How the devices of a test are kept apart, as configurations of a server.

use std::collections::BTreeMap;

use iot_contracts::{DeviceId, ServerAccounts, UserKey};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::modules::iot::platform::token::Claims;
use crate::modules::iot::platform::{
    DeviceTokens, devices_imports, devices_scope, platform_exports,
};

/// How the devices are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As harmony writes a server's configuration.
    Accounts,
    /// As harmony signs tokens.
    Tokens,
    /// Not: with the same permissions, in the account with the buckets.
    OneAccount,
    /// Not: device A may do everything in the account with the buckets.
    Everything,
}

pub(super) fn public(key: &KeyPair) -> UserKey {
    key.public_key().parse().expect("a user's")
}

pub(super) fn id(name: &str) -> DeviceId {
    name.parse().expect("valid")
}

pub(super) fn accounts(keys: &BTreeMap<&'static str, KeyPair>, layout: Layout) -> String {
    let devices = ["a", "b"].map(|name| (id(name), public(&keys[name])));
    let devices = BTreeMap::from(devices);
    let accounts = ServerAccounts::new(&[public(&keys["op"])], &devices).expect("valid");
    let mut config = serde_json::to_value(accounts).expect("JSON");
    if layout != Layout::Accounts {
        let all = config["accounts"].as_object_mut().expect("accounts");
        let mut devices = all.remove("DEVICES").expect("there");
        let users = devices["users"].as_array_mut().expect("users");
        if layout == Layout::Everything {
            let a = public(&keys["a"]);
            let a = users.iter_mut().find(|user| user["nkey"] == a.as_str());
            a.expect("there")["permissions"] = json!({ "publish": ">", "subscribe": ">" });
        }
        let platform = &mut all["IOT"];
        platform
            .as_object_mut()
            .expect("an account")
            .remove("exports");
        let known = platform["users"].as_array_mut().expect("users");
        known.append(users);
    }
    let text = config.to_string();
    text[1..text.len() - 1].to_owned()
}

pub(super) fn by_tokens(
    keys: &BTreeMap<&'static str, KeyPair>,
) -> (String, BTreeMap<String, String>) {
    let operator = KeyPair::new_operator();
    let [platform, devices, system, scope] = [(); 4].map(|()| KeyPair::new_account());
    let signed = |signer: &KeyPair, subject: &KeyPair, name: &str, nats: Value| {
        let subject = subject.public_key();
        let claims = Claims {
            expires: None,
            name,
            subject: &subject,
            nats,
        };
        claims.signed(signer).expect("signed")
    };
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let mut storing = limits.clone();
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        storing[limit] = (-1).into();
    }
    let of = |account: &KeyPair, more: Value| {
        let mut claims = json!({ "type": "account", "version": 2 });
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        (
            account.public_key(),
            signed(&operator, account, "account", claims),
        )
    };
    let preload = BTreeMap::from([
        of(
            &platform,
            json!({ "limits": storing, "exports": platform_exports() }),
        ),
        of(
            &devices,
            json!({ "limits": limits, "imports": devices_imports(&platform.public_key()),
                "signing_keys": [devices_scope(&scope.public_key())] }),
        ),
        of(&system, json!({ "limits": limits })),
    ]);
    let claims = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
    let config = json!({
        "operator": signed(&operator, &operator, "operator", claims),
        "resolver": "MEMORY", "resolver_preload": preload,
    });
    let config = config.to_string();

    let seed = scope.seed().expect("it has one");
    let issuer = DeviceTokens::new(&devices.public_key(), &seed).expect("valid");
    let mut tokens = BTreeMap::new();
    for name in ["a", "b"] {
        let token = issuer.token(&id(name), &public(&keys[name]), None);
        tokens.insert(name.to_owned(), token.expect("signed"));
    }
    let user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    tokens.insert("op".to_owned(), signed(&platform, &keys["op"], "op", user));
    // What A could try to be.
    let own = json!({ "type": "user", "version": 2, "issuer_account": devices.public_key() });
    let mut wide = own.clone();
    for (part, all) in [
        ("pub", json!({ "allow": [">"] })),
        ("sub", json!({ "allow": [">"] })),
    ] {
        wide[part] = all;
    }
    for limit in ["subs", "data", "payload"] {
        wide[limit] = (-1).into();
    }
    tokens.insert("wide".to_owned(), signed(&scope, &keys["a"], "a", wide));
    tokens.insert(
        "by itself".to_owned(),
        signed(&keys["a"], &keys["a"], "b", own.clone()),
    );
    tokens.insert("of b".to_owned(), tokens["b"].clone());
    // Whom only an issuer that does not check names would sign.
    tokens.insert("named *".to_owned(), signed(&scope, &keys["a"], "*", own));
    (config[1..config.len() - 1].to_owned(), tokens)
}
