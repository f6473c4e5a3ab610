use super::{
    DeviceConsumer, DevicePermissions, UserKey, device_services, entry_subject, inbox_prefix,
    status_subject,
};
use crate::error::ContractError;
use crate::name::DeviceId;

const KEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

fn device() -> (DeviceId, UserKey) {
    ("pi-1".parse().unwrap(), KEY.parse().unwrap())
}

#[test]
fn a_device_may_use_these_subjects_and_no_other() {
    let (id, key) = device();
    let may = DevicePermissions::of(&id, &key);
    assert_eq!(
        may.publish,
        [
            "$KV.agent-status.status.pi-1".to_owned(),
            "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state.pi-1.>".to_owned(),
            "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state._bucket".to_owned(),
            format!("$JS.API.CONSUMER.MSG.NEXT.KV_desired-state.{KEY}"),
        ]
    );
    assert_eq!(may.subscribe, [format!("_INBOX.{KEY}.>")]);
    // What the agent uses is among them.
    assert_eq!(may.publish[0], status_subject(&id));
    let own = may.publish[1].strip_suffix('>').unwrap();
    assert_eq!(entry_subject("pi-1.web"), format!("{own}web"));
    assert_eq!(may.subscribe[0], format!("{}.>", inbox_prefix(KEY)));
}

#[test]
fn the_server_fills_in_the_template() {
    let may = DevicePermissions::template();
    let fill = |subject: &String| {
        subject
            .replace("{{name()}}", "pi-1")
            .replace("{{subject()}}", KEY)
    };
    let (id, key) = device();
    let filled = DevicePermissions {
        publish: may.publish.iter().map(fill).collect(),
        subscribe: may.subscribe.iter().map(fill).collect(),
    };
    assert_eq!(filled, DevicePermissions::of(&id, &key));
}

#[test]
fn what_the_devices_account_reaches() {
    let services = device_services();
    let services: Vec<_> = services
        .iter()
        .map(|service| (service.subject.as_str(), service.is_stream))
        .collect();
    assert_eq!(
        services,
        [
            ("$KV.agent-status.status.*", false),
            (
                "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state.*.>",
                false
            ),
            (
                "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state._bucket",
                false
            ),
            ("$JS.API.CONSUMER.MSG.NEXT.KV_desired-state.*", true),
            ("$JS.API.INFO", false),
        ]
    );
}

#[test]
fn a_consumer_tells_of_its_devices_keys() {
    let (id, key) = device();
    let consumer = DeviceConsumer::of(&id, &key);
    assert_eq!(consumer.name, KEY);
    let golden = format!(
        concat!(
            r#"{{"durable_name":"{}","filter_subject":"$KV.desired-state.pi-1.>","description":"the device pi-1","#,
            r#""deliver_policy":"last_per_subject","ack_policy":"explicit","max_deliver":1000000000,"#,
            r#""backoff":[1000000000,2000000000,3000000000,4000000000,4000000000,4000000000,4000000000,4000000000,"#,
            r#"4000000000,60000000000],"max_ack_pending":-1,"headers_only":true}}"#
        ),
        KEY
    );
    assert_eq!(serde_json::to_string(&consumer).unwrap(), golden);
    // Whatever a lost connection's request may swallow comes again within 4 s.
    let [eager @ .., last] = DeviceConsumer::AGAIN_SECONDS;
    assert!(eager.iter().all(|wait| *wait <= 4) && eager.iter().sum::<u64>() >= 30);
    assert_eq!(last, 60);
}

#[test]
fn a_key_is_one_token_and_a_seed_is_not_repeated() {
    assert_eq!(KEY.parse::<UserKey>().unwrap().as_str(), KEY);
    let lower = KEY.to_lowercase();
    for text in ["", "*", ">", "U", &KEY[1..], &KEY.replace('X', "."), &lower] {
        let error = text.parse::<UserKey>().unwrap_err();
        assert_eq!(
            error,
            ContractError::UserKey {
                value: text.to_owned()
            }
        );
    }
    let seed = "SUAGMJH5XLGZKKQWAWKRZJIGMOU4HPFUYLXJMXOO5NLFEO2OOQJ5LPRDPM";
    let error = seed.parse::<UserKey>().unwrap_err().to_string();
    assert!(!error.contains(&seed[2..]), "{error}");
}
