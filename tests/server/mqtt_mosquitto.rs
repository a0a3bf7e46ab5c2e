//! The commands of Eclipse Mosquitto against the real server, in all three versions of MQTT, and what native sessions make of it.
//!
//! They are the package `mosquitto-clients`.

use crate::client::Seen;
use crate::mosquitto::{Subscriber, VERSIONS, mosquitto, publish};
use crate::server::Server;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

fn start() -> Server {
    Server::start_with_mqtt(2, &[])
}

#[test]
fn a_message_of_any_version_and_qos_reaches_every_other() {
    let server = start();
    let subscribers: Vec<_> = VERSIONS
        .iter()
        .flat_map(|version| ["0", "1", "2"].map(|qos| (qos, Subscriber::start(&server, version, &["-t", "a/#", "-q", qos]))))
        .collect();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            publish(&server, version, &["-t", "a/b", "-q", qos, "-m", &format!("{version} {qos}")]);
            for (granted, subscriber) in &subscribers {
                subscriber.expect(&format!("a/b {} 0 {version} {qos}", qos.min(granted)));
            }
        }
    }
}

#[test]
fn many_lines_of_one_publisher_keep_their_order() {
    let server = start();
    for (version, qos) in VERSIONS.into_iter().zip(["0", "1", "2"]) {
        let topic = format!("lines/{version}");
        let subscriber = Subscriber::start(&server, version, &["-t", &topic, "-q", qos]);
        let mut publisher =
            mosquitto("mosquitto_pub", &server, version, &["-t", &topic, "-q", qos, "-l"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = publisher.stdin.take().expect("it is piped");
        (0..1000).for_each(|number| writeln!(input, "{number}").expect("the process reads"));
        drop(input);
        assert!(publisher.wait().unwrap().success());
        (0..1000).for_each(|number| subscriber.expect(&format!("{topic} {qos} 0 {number}")));
    }
}

#[test]
fn a_retained_message_is_the_topics_value_until_an_empty_one_clears_it() {
    let server = start();
    let mut session = server.connect();
    session.subscribe("kept").unwrap();
    for version in VERSIONS {
        publish(&server, version, &["-t", "kept", "-q", "1", "-r", "-m", version]);
        let entries = session.fetch_all("kept");
        assert_eq!(entries.iter().map(|entry| entry.value.as_deref()).collect::<Vec<_>>(), [Some(version.as_bytes())]);
        for reader in VERSIONS {
            let subscriber = Subscriber::start_unheard(&server, reader, &["-t", "kept", "-q", "2"]);
            subscriber.expect(&format!("kept 1 1 {version}"));
        }
        publish(&server, version, &["-t", "kept", "-q", "1", "-r", "-n"]);
        assert_eq!(session.fetch_all("kept"), []);
    }
    let expected = VERSIONS.iter().flat_map(|version| {
        [
            Seen::Subscribed("kept".into(), TopicType::Binary),
            Seen::Value("kept".into(), version.as_bytes().into()),
            Seen::Unsubscribed("kept".into(), 2),
        ]
    });
    let seen: Vec<Seen> = expected.clone().map(|_| session.next()).collect();
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[test]
fn the_will_of_a_killed_client_comes_to_both_kinds_of_sessions() {
    let server = start();
    let mut session = server.connect();
    session.subscribe("?wills//").unwrap();
    let watcher = Subscriber::start(&server, "mqttv5", &["-t", "wills/+", "-q", "2"]);
    for (version, qos) in VERSIONS.into_iter().zip(["0", "1", "2"]) {
        let topic = format!("wills/{version}");
        let arguments = ["-t", "x", "--will-topic", &topic, "--will-payload", "lost", "--will-qos", qos, "--will-retain"];
        Subscriber::start(&server, version, &arguments).kill();
        watcher.expect(&format!("{topic} {qos} 0 lost"));
        assert_eq!(session.next(), Seen::Subscribed(topic.clone(), TopicType::Binary));
        assert_eq!(session.next(), Seen::Value(topic.clone(), b"lost".into()));
        assert_eq!(session.fetch_all(&topic).len(), 1);
    }
}

#[test]
fn a_client_that_waits_no_longer_takes_its_will_along_unless_it_says_otherwise() {
    let server = start();
    let watcher = Subscriber::start(&server, "mqttv311", &["-t", "wills/+"]);
    // Of these only the last has a way to leave and want its will published, and it does.
    let leaving = VERSIONS.map(|version| {
        let topic = format!("wills/{version}");
        Subscriber::start(&server, version, &["-t", "x", "-W", "1", "--will-topic", &topic, "--will-payload", "left"])
    });
    for subscriber in leaving {
        assert_eq!(subscriber.wait(), Some(27), "it ends by its own timeout");
    }
    watcher.expect("wills/mqttv5 0 0 left");
    publish(&server, "mqttv5", &["-t", "wills/end", "-m", "end"]);
    watcher.expect("wills/end 0 0 end");
}

#[test]
fn a_group_of_clients_shares_what_comes_to_its_filter() {
    let server = start();
    let members: Vec<Subscriber> =
        VERSIONS[1..].iter().map(|version| Subscriber::start(&server, version, &["-t", "$share/group/jobs/#", "-q", "1"])).collect();
    let mut counts = BTreeMap::new();
    for number in 0..5 {
        publish(&server, "mqttv5", &["-t", &format!("jobs/{number}"), "-q", "1", "-m", "by MQTT"]);
        server.connect().add_and_set(&format!("jobs/{number}"), ValueType::Binary, b"natively").unwrap();
    }
    // In turn: of ten each has five, and nobody else's.
    for member in &members {
        for _ in 0..5 {
            *counts.entry(member.next()).or_insert(0) += 1;
        }
    }
    let both = (0..5).flat_map(|number| ["by MQTT", "natively"].map(|from| format!("jobs/{number} 1 0 {from}")));
    assert_eq!(counts, both.map(|message| (message, 1)).collect());
}

#[test]
fn a_client_that_was_away_is_sent_what_came_meanwhile() {
    let server = start();
    for version in VERSIONS {
        let id = ["-i", version, "-c", "-q", "2"];
        let topic = format!("away/{version}");
        assert_eq!(Subscriber::start_unheard(&server, version, &[&id[..], &["-t", &topic, "-E"]].concat()).wait(), Some(0));
        publish(&server, "mqttv311", &["-t", &topic, "-q", "0", "-m", "of QoS 0"]);
        publish(&server, "mqttv31", &["-t", &topic, "-q", "1", "-m", "of QoS 1"]);
        publish(&server, "mqttv5", &["-t", &topic, "-q", "2", "-m", "of QoS 2"]);
        let back = Subscriber::start_unheard(&server, version, &[&id[..], &["-t", "another", "-C", "2"]].concat());
        back.expect(&format!("{topic} 1 0 of QoS 1"));
        back.expect(&format!("{topic} 2 0 of QoS 2"));
        assert_eq!(back.wait(), Some(0));
    }
}

#[test]
fn the_properties_of_a_message_arrive_with_it() {
    let server = start();
    let format = ["-F", "got %C|%D|%R|%P|%F|%E|%p"];
    let subscriber = Subscriber::start(&server, "mqttv5", &[&format[..], &["-t", "asked", "-q", "1"]].concat());
    let properties = [
        ["content-type", "text/plain"],
        ["correlation-data", "7"],
        ["response-topic", "answers/7"],
        ["payload-format-indicator", "1"],
        ["message-expiry-interval", "300"],
    ];
    let mut arguments = vec![
        "-t",
        "asked",
        "-q",
        "1",
        "-m",
        "how?",
        "-D",
        "publish",
        "user-property",
        "a",
        "1",
        "-D",
        "publish",
        "user-property",
        "a",
        "2",
    ];
    properties.iter().for_each(|[name, value]| arguments.extend(["-D", "publish", name, value]));
    publish(&server, "mqttv5", &arguments);
    subscriber.expect("text/plain|7|answers/7|a:1 a:2|1|300|how?");
}

#[test]
fn a_topic_that_a_message_makes_is_of_its_rules_type_and_takes_any_payload_without_one() {
    let server = Server::start_with_mqtt(2, &[("MQTT_TOPICS", "from/text: string;from/json: json")]);
    let mut session = server.connect();
    session.subscribe("?from//").unwrap();
    type Kind<'a> = (&'a str, &'a [&'a str], &'a str, TopicType, &'a [u8]);
    let kinds: [Kind<'_>; 4] = [
        ("from/bytes", &["-D", "publish", "payload-format-indicator", "1"], "é", TopicType::Binary, "é".as_bytes()),
        ("from/page", &["-D", "publish", "content-type", "application/json"], "{ }", TopicType::Binary, b"{ }"),
        ("from/text", &[], "é", TopicType::String, "é".as_bytes()),
        ("from/json", &[], "{ \"a\": [1, 2] }", TopicType::Json, br#"{"a":[1,2]}"#),
    ];
    for (topic, properties, payload, kind, value) in kinds {
        for retain in [&[][..], &["-r"]] {
            publish(&server, "mqttv5", &[&["-t", topic, "-q", "1", "-m", payload], properties, retain].concat());
        }
        assert_eq!(session.next(), Seen::Subscribed(topic.into(), kind));
        // The first passes by, the second stays: both are news.
        assert_eq!(session.next(), Seen::Value(topic.into(), value.into()));
        assert_eq!(session.next(), Seen::Value(topic.into(), value.into()));
        assert_eq!(session.fetch_all(topic)[0].value.as_deref(), Some(value));
    }
}

#[test]
fn native_values_of_every_type_are_payloads() {
    let server = start();
    let mut session = server.connect();
    let values: [(&str, ValueType, Vec<u8>, &str); 6] = [
        ("json", ValueType::Json, br#"{"a":[1,2.5,"x"]}"#.into(), r#"{"a":[1,2.5,"x"]}"#),
        ("string", ValueType::String, "Grüße".into(), "Grüße"),
        ("int64", ValueType::Int64, i64::MIN.to_be_bytes().into(), "-9223372036854775808"),
        ("double", ValueType::Double, 0.1f64.to_be_bytes().into(), "0.1"),
        ("infinite", ValueType::Double, f64::INFINITY.to_be_bytes().into(), "Infinity"),
        ("binary", ValueType::Binary, b"\x01\x7f".into(), "\x01\x7f"),
    ];
    let live = VERSIONS.map(|version| Subscriber::start(&server, version, &["-t", "native/+", "-q", "1"]));
    for (name, kind, value, payload) in &values {
        let topic = format!("native/{name}");
        session.add_and_set(&topic, *kind, value).unwrap();
        live.iter().for_each(|subscriber| subscriber.expect(&format!("{topic} 1 0 {payload}")));
        for version in VERSIONS {
            Subscriber::start_unheard(&server, version, &["-t", &topic]).expect(&format!("{topic} 0 1 {payload}"));
        }
    }
}

#[test]
fn a_payload_sets_a_native_topic_of_every_type_or_is_refused() {
    let server = start();
    let mut session = server.connect();
    session.subscribe("?native//").unwrap();
    let values: [(&str, ValueType, &str, Vec<u8>); 4] = [
        ("native/int64", ValueType::Int64, "-42", (-42i64).to_be_bytes().into()),
        ("native/double", ValueType::Double, "2.5e3", 2500f64.to_be_bytes().into()),
        ("native/json", ValueType::Json, "[ 1 ]", b"[1]".into()),
        ("native/string", ValueType::String, "text", b"text".into()),
    ];
    for (topic, kind, payload, value) in values {
        session.add(topic, kind).unwrap();
        assert_eq!(session.next(), Seen::Subscribed(topic.into(), kind.into()));
        publish(&server, "mqttv311", &["-t", topic, "-q", "2", "-r", "-m", payload]);
        assert_eq!(session.next(), Seen::Value(topic.into(), value.clone()));
        if kind != ValueType::String {
            let output = publish(&server, "mqttv5", &["-t", topic, "-q", "1", "-r", "-m", "[no such"]);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("Payload format invalid"), "{errors}");
        }
        assert_eq!(session.fetch_all(topic)[0].value.as_deref(), Some(&*value));
    }
    // The answers to the fetches came behind all values.
    assert_eq!(session.settle(), []);
}

#[test]
fn a_topic_that_is_removed_natively_is_no_retained_message_any_more() {
    let server = start();
    let mut session = server.connect();
    let subscriber = Subscriber::start(&server, "mqttv311", &["-t", "coming/#", "-q", "1"]);
    session.add("coming/going", TopicType::String).unwrap();
    session.set("coming/going", ValueType::String, b"first").unwrap();
    subscriber.expect("coming/going 1 0 first");
    assert_eq!(session.remove("coming/going"), Ok(1));
    session.add_and_set("coming/late", ValueType::String, b"other").unwrap();
    subscriber.expect("coming/late 1 0 other");
    let late = Subscriber::start_unheard(&server, "mqttv311", &["-t", "coming/going", "-t", "coming/late", "-q", "1"]);
    late.expect("coming/late 1 1 other");
    session.add_and_set("coming/going", ValueType::Int64, &5i64.to_be_bytes()).unwrap();
    subscriber.expect("coming/going 1 0 5");
    late.expect("coming/going 1 0 5");
}

#[test]
fn the_servers_figures_are_topics_once_somebody_looks_for_them() {
    let server = start();
    let mut session = server.connect();
    session.subscribe("?.*//").unwrap();
    let everything = Subscriber::start(&server, "mqttv5", &["-t", "#"]);
    let figures = Subscriber::start_unheard(&server, "mqttv311", &["-t", "$SYS/broker/#"]);
    let mut found = BTreeMap::new();
    while !(found.contains_key("$SYS/broker/clients/connected") && found.contains_key("$SYS/broker/version")) {
        let line = figures.next();
        let (name, rest) = line.split_once(' ').expect("a name");
        let payload = rest.splitn(3, ' ').last().expect("a payload");
        found.insert(name.to_owned(), payload.to_owned());
    }
    assert!(found["$SYS/broker/version"].starts_with("Tidewire "), "{found:?}");
    assert_eq!(found["$SYS/broker/clients/connected"], "3");
    assert!(matches!(session.next(), Seen::Subscribed(path, _) if path.starts_with("$SYS/")));
    assert!(session.set("$SYS/broker/version", ValueType::String, b"mine").is_err(), "they are the server's own");
    // A wildcard in the first level leaves them out.
    publish(&server, "mqttv5", &["-t", "a", "-m", "1"]);
    everything.expect("a 0 0 1");
}

#[test]
fn who_subscribes_at_qos_1_gets_all_of_30000_retained_messages() {
    const MESSAGES: usize = 30_000;
    let server = start();
    let mut session = server.connect();
    for number in 0..MESSAGES {
        session.add_and_set(&format!("many/{number}"), ValueType::Binary, number.to_string().as_bytes()).unwrap();
    }
    let count = MESSAGES.to_string();
    for version in ["mqttv311", "mqttv5"] {
        let arguments = ["-t", "many/#", "-q", "1", "-C", &count, "-W", "60", "-F", "%q %r %p"];
        let output = mosquitto("mosquitto_sub", &server, version, &arguments).output().expect("the package mosquitto-clients is installed");
        let mut lines: Vec<&str> = std::str::from_utf8(&output.stdout).expect("they are numbers").lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), MESSAGES, "{version}: each once");
        assert!(lines.iter().all(|line| line.starts_with("1 1 ")), "{version}");
    }
}

#[test]
fn what_was_acknowledged_waits_for_a_client_that_is_away() {
    let server = start();
    for (version, id) in [("mqttv311", "old"), ("mqttv5", "new")] {
        let kept = ["-i", id, "-c", "-q", "1", "-t", "kept", "-x", "600"];
        let left = mosquitto("mosquitto_sub", &server, version, &[&kept[..], &["-E"]].concat()).output().expect("the package is installed");
        assert!(left.status.success(), "{left:?}");
        let mut publisher =
            mosquitto("mosquitto_pub", &server, version, &["-t", "kept", "-q", "1", "-l"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = publisher.stdin.take().expect("it is piped");
        (0..1000).for_each(|number| writeln!(input, "{number}.{}", "x".repeat(1000)).expect("the process reads"));
        drop(input);
        assert!(publisher.wait().unwrap().success(), "each is acknowledged");
        let output = mosquitto("mosquitto_sub", &server, version, &[&kept[..], &["-C", "1000", "-W", "60"]].concat()).output().unwrap();
        let text = std::str::from_utf8(&output.stdout).expect("they are texts");
        let numbers: Vec<usize> = text.lines().map(|line| line.split('.').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>(), "{version}");
    }
}
