//! What configurations come to, which are refused, and that the printed default is the one that is meant.

mod listeners;

use super::*;

/// The configuration from a file's text, variables and flags, on a host with cores 0 to 3.
fn made(text: &str, variables: &[(&str, &str)], overrides: Overrides) -> Result<Config, ConfigError> {
    let mut draft = Draft::default();
    draft.take_file(text, "t.toml")?;
    draft.take_environment(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))?;
    draft.take_overrides(overrides)?;
    draft.settle()?;
    draft.check_cores_exist(&[0, 1, 2, 3])?;
    Ok(draft.config)
}

/// Checks what the operator is told about a file.
fn check(text: &str, message: &str) {
    assert_eq!(made(text, &[], Overrides::default()).unwrap_err().to_string(), message, "{text}");
}

fn check_variable(name: &str, value: &str, message: &str) {
    let error = made("", &[(name, value)], Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), message);
}

fn check_accepted(text: &str) -> Config {
    made(text, &[], Overrides::default()).expect(text)
}

#[test]
fn the_reference_equals_the_defaults() {
    assert_eq!(check_text(REFERENCE, "default.toml"), Ok(Config::default()));
}

#[test]
fn the_reference_has_every_setting_and_what_it_takes() {
    for setting in SETTINGS {
        let (section, name) = setting.key.split_once('.').unwrap();
        let (_, body) = REFERENCE.split_once(&format!("[{section}]\n")).expect(section);
        let (before, _) = body.split_once(&format!("\n{name} = ")).expect(setting.key);
        let paragraph = before.rsplit("\n\n").next().unwrap();
        let allowed = format!("Allowed: {}", setting.allowed());
        assert!(paragraph.contains(&allowed), "{}: {allowed}", setting.key);
    }
}

#[test]
fn the_reference_names_nothing_else() {
    let keys = REFERENCE.lines().filter(|line| !line.starts_with('#') && line.contains(" = "));
    assert_eq!(keys.count(), SETTINGS.len());
}

/// Each number among the limits, behind the names that lead to it.
fn numbers(config: &Config) -> Vec<(String, String)> {
    let mut around: Vec<String> = Vec::new();
    let mut numbers = Vec::new();
    for line in format!("{:#?}", &config.limits).lines().map(str::trim) {
        let (name, rest) = line.split_once(": ").unwrap_or(("", line));
        if rest.ends_with(['{', '(', '[']) {
            around.push(format!("{name}."));
        } else if rest.starts_with(['}', ')', ']']) {
            around.pop();
        } else if rest.starts_with(|first: char| first.is_ascii_digit()) {
            numbers.push((format!("{}{name}", around.concat().trim_start_matches('.')), rest.to_owned()));
        }
    }
    numbers
}

#[test]
fn every_limit_is_set_by_a_key() {
    let at_edge = |edge: fn((u64, u64)) -> u64| {
        let mut config = Config::default();
        for setting in SETTINGS {
            if let Some(range) = setting.range() {
                setting.apply(&mut config, &Given::Number(edge(range) as i64)).expect(setting.key);
            }
        }
        numbers(&config)
    };
    let (least, most) = (at_edge(|range| range.0), at_edge(|range| range.1));
    let fixed = least.iter().zip(&most).filter(|(least, most)| least == most).map(|(least, _)| &*least.0);
    // What else a view may say is fixed, so that every server takes what one takes, and `tidewire view check` needs none.
    let unset: Vec<&str> = fixed.filter(|name| !name.starts_with("views.language.")).collect();
    // limits.json_depth_max stands in for the first; how many groups there are is fixed when a cluster is founded.
    assert_eq!(unset, ["constraint.json_depth_max", "groups"]);
}

#[test]
fn every_setting_has_a_variable_that_sections_own() {
    assert!(SETTINGS.iter().all(|setting| is_ours(&setting.variable())));
}

#[test]
fn flags_win_over_environment_over_file() {
    let text = "[server]\nlisten = '127.0.0.1:1'\nshards = 1\nspin_before_park_us = 1";
    let variables = [("TIDEWIRE_SERVER_LISTEN", "127.0.0.1:2"), ("TIDEWIRE_SERVER_SHARDS", "2")];
    let overrides = Overrides { listen: Some("127.0.0.1:3".into()), ..Overrides::default() };
    let config = made(text, &variables, overrides).unwrap();
    assert_eq!(config.server.listen.unwrap().port(), 3);
    assert_eq!(config.server.shards, 2);
    assert_eq!(config.server.spin_before_park_us, 1);
}

#[test]
fn every_kind_of_value_is_read_from_a_variable() {
    let variables = [
        ("TIDEWIRE_SERVER_LISTEN", "[::1]:0"),
        ("TIDEWIRE_SERVER_DEV", "true"),
        ("TIDEWIRE_SERVER_CORES", "2, 3"),
        ("TIDEWIRE_LIMITS_TOPICS_MAX", "5_000"),
        ("TIDEWIRE_LOG_FORMAT", "json"),
    ];
    let config = made("", &variables, Overrides::default()).unwrap();
    assert_eq!(config.server.listen, Some("[::1]:0".parse().unwrap()));
    assert!(config.server.dev && config.authentication.chain.is_empty());
    assert_eq!(config.server.cores, [2, 3]);
    assert_eq!(config.limits.topics_max, 5000);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn variables_of_others_are_left_alone() {
    let variables = [("TIDEWIRE_URL", "x"), ("TIDEWIRE_LOG", "debug"), ("SERVER_LISTEN", "x")];
    assert_eq!(made("", &variables, Overrides::default()), Ok(Config::default()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    check("[limits]\n\nmesage_bytes_max = 1", "t.toml line 3: unknown key limits.mesage_bytes_max; did you mean limits.message_bytes_max?");
    check("[limits]\nlisten = 1", "t.toml line 2: unknown key limits.listen; did you mean server.listen?");
    check("shards = 1", "t.toml line 1: unknown key shards; did you mean server.shards?");
    check("[limit]\ntopics_max = 1", "t.toml line 2: unknown key limit.topics_max; did you mean limits.topics_max?");
    check("[tls]", "t.toml line 1: unknown key tls; `tidewire config default` prints all keys");
    check("[server.certificate]\na = 1", "t.toml line 1: unknown key server.certificate; `tidewire config default` prints all keys");
}

#[test]
fn an_unknown_variable_of_a_section_is_refused_with_the_nearest() {
    check_variable(
        "TIDEWIRE_SERVER_SHARD",
        "1",
        "environment variable TIDEWIRE_SERVER_SHARD: unknown key TIDEWIRE_SERVER_SHARD; did you mean TIDEWIRE_SERVER_SHARDS?",
    );
}

#[test]
fn a_refused_value_is_named_with_its_place_and_what_is_allowed() {
    check("[server]\nshards = 257", "t.toml line 2: server.shards = 257 is refused; allowed: 0 to 256");
    check("[server]\nshards = -1", "t.toml line 2: server.shards = -1 is refused; allowed: 0 to 256");
    check("[server]\nshards = \"2\"", "t.toml line 2: server.shards = \"2\" is refused; allowed: 0 to 256");
    check("[server]\nlisten = 'localhost:80'", "t.toml line 2: server.listen = 'localhost:80' is refused; allowed: ADDR:PORT or off");
    check("[log]\nlevel = 'loud'", "t.toml line 2: log.level = 'loud' is refused; allowed: error, warn, info, debug, trace");
    check_variable(
        "TIDEWIRE_LIMITS_PATH_BYTES_MAX",
        "lots",
        "environment variable TIDEWIRE_LIMITS_PATH_BYTES_MAX: limits.path_bytes_max = lots is refused; allowed: 16 to 16384",
    );
    let overrides = Overrides { cores: Some("0,x".into()), ..Overrides::default() };
    let error = made("", &[], overrides).unwrap_err().to_string();
    assert_eq!(error, "flag --cores: server.cores = 0,x is refused; allowed: a list of different cores of this host");
}

#[test]
fn numbers_are_taken_up_to_their_edges() {
    check_accepted("server.shards = 256");
    check_accepted("limits.json_depth_max = 1");
    check("limits.json_depth_max = 0", "t.toml line 1: limits.json_depth_max = 0 is refused; allowed: 1 to 1024");
    check("server.shards = 99999999999999999999", "t.toml line 1: server.shards = 99999999999999999999 is refused; allowed: 0 to 256");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let error = made("[server]\nlisten = \n", &[], Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("t.toml line 2: not TOML: "), "{error}");
    let error = made("[server]\nshards = 1\nshards = 2\n", &[], Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("t.toml line 3: not TOML: "), "{error}");
}

#[test]
fn a_value_and_its_path_have_to_fit_a_message() {
    check_accepted("limits.value_bytes_max = 1112064");
    check(
        "limits.value_bytes_max = 1112065",
        "t.toml line 1: limits.value_bytes_max = 1112065 is refused; allowed: at most 1112064, \
         as limits.message_bytes_max = 1114112 has to hold it and 2048 bytes beside it",
    );
    check(
        "limits.message_bytes_max = 4096",
        "t.toml line 1: limits.message_bytes_max = 4096 is refused; allowed: at least 1050624, \
         to hold limits.value_bytes_max = 1048576 and 2048 bytes beside it",
    );
}

#[test]
fn the_high_mark_is_at_most_the_bound_of_the_queue() {
    check_accepted("session.queue_bytes_high = 16777216");
    check(
        "session.queue_bytes_high = 16777217",
        "t.toml line 1: session.queue_bytes_high = 16777217 is refused; allowed: at most 16777216, \
         as session.queue_bytes_max = 16777216 has to hold it",
    );
}

#[test]
fn cores_exist_and_stand_once_and_suffice_for_the_shards() {
    check_accepted("server.cores = [3, 0]\nserver.shards = 2");
    check(
        "server.cores = [1, 4]",
        "t.toml line 1: server.cores = [1, 4] is refused; allowed: the cores that this process may use: [0, 1, 2, 3]",
    );
    check("server.cores = [1, 1]", "t.toml line 1: server.cores = [1, 1] is refused; allowed: each core once");
    check(
        "server.cores = [1]\nserver.shards = 2",
        "t.toml line 2: server.shards = 2 is refused; allowed: 0 to 1, the number of cores in server.cores",
    );
}

#[test]
fn only_loopback_is_listened_on_where_nobody_is_asked_who_clients_are() {
    check_accepted("server.listen = '127.9.9.9:1'\nserver.dev = true");
    check_accepted("server.listen = '[::ffff:127.0.0.1]:1'\nserver.dev = true");
    let allowed = |port: u16| {
        format!(
            "a loopback address such as 127.0.0.1:{port} or [::1]:{port}, as nobody is asked who clients are: authentication.chain is empty"
        )
    };
    check(
        "server.listen = '0.0.0.0:80'\nserver.dev = true",
        &format!("t.toml line 1: server.listen = '0.0.0.0:80' is refused; allowed: {}", allowed(80)),
    );
    check(
        "authentication.chain = []\nmqtt.listen = '0.0.0.0:1883'",
        &format!("t.toml line 2: mqtt.listen = '0.0.0.0:1883' is refused; allowed: {}", allowed(1883)),
    );
    let overrides = Overrides { listen: Some("[::]:80".into()), ..Overrides::default() };
    assert!(made("", &[], overrides).unwrap().exposure().starts_with("reachable from other hosts"));
    assert!(Config::default().exposure().starts_with("reachable from this host only"));
}

#[test]
fn a_developer_s_server_asks_nobody() {
    assert_eq!(check_accepted("server.dev = true").authentication.chain, []);
    check(
        "server.dev = true\nauthentication.chain = ['principals']",
        "t.toml line 1: server.dev = true is refused; allowed: false, as authentication.chain says who is asked who clients are",
    );
}

#[test]
fn shards_are_placed_on_the_cores_given_or_usable() {
    let placement = |text: &str| check_accepted(text).placement(&[0, 1, 2, 3]);
    assert_eq!(placement(""), [0, 1, 2, 3]);
    assert_eq!(placement("server.shards = 2"), [0, 1]);
    assert_eq!(placement("server.cores = [3, 1]"), [3, 1]);
    assert_eq!(placement("server.cores = [3, 1]\nserver.shards = 1"), [3]);
    assert_eq!(placement("server.shards = 6"), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Some(Path::new("/nowhere/t.toml")), std::iter::empty(), Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/t.toml: cannot be read: "), "{error}");
}

#[test]
fn mqtt_has_an_address_or_is_off() {
    assert_eq!(check_accepted("").mqtt.listen, Some("127.0.0.1:1883".parse().unwrap()));
    assert_eq!(check_accepted("mqtt.listen = 'off'").mqtt.listen, None);
    let flag = |value: &str| Overrides { mqtt: Some(value.into()), ..Overrides::default() };
    assert_eq!(made("mqtt.listen = 'off'", &[], flag("[::1]:0")).unwrap().mqtt.listen, Some("[::1]:0".parse().unwrap()));
    assert_eq!(made("", &[("TIDEWIRE_MQTT_LISTEN", "off")], Overrides::default()).unwrap().mqtt.listen, None);
    let error = made("", &[], flag("none")).unwrap_err().to_string();
    assert_eq!(error, "flag --mqtt: mqtt.listen = none is refused; allowed: ADDR:PORT or off");
}

#[test]
fn a_packet_of_mqtt_has_to_fit_a_message() {
    check(
        "mqtt.packet_bytes_max = 1114113",
        "t.toml line 1: mqtt.packet_bytes_max = 1114113 is refused; allowed: at most 1114112, \
         as limits.message_bytes_max = 1114112 has to hold it",
    );
    check_accepted("mqtt.packet_bytes_max = 1114113\nlimits.message_bytes_max = 1114113");
    check_accepted("mqtt.packet_bytes_max = 1114113\nmqtt.listen = 'off'");
}

#[test]
fn rules_for_topics_are_a_list_of_texts() {
    let branches = |config: &Config| {
        let rules = &config.limits.mqtt.rules;
        ["a", "b", "x"].into_iter().filter(|branch| rules.find(branch).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(branches(&check_accepted("mqtt.topics = ['a: json', \"b: binary keep\"]")), ["a", "b"]);
    assert!(branches(&check_accepted("mqtt.topics = []")).is_empty());
    let variable = |text: &str| made("mqtt.topics = ['x: binary']", &[("TIDEWIRE_MQTT_TOPICS", text)], Overrides::default()).unwrap();
    assert_eq!(branches(&variable(" a: json ; b: refuse;")), ["a", "b"]);
    assert!(branches(&variable("")).is_empty());
}

#[test]
fn a_rule_that_is_none_is_told_with_its_number_and_place() {
    let allowed = "allowed: a list of rules \"BRANCH: TYPE [KEY=VALUE …] [keep]\"";
    check("mqtt.topics = 'a: json'", &format!("t.toml line 1: mqtt.topics = 'a: json' is refused; {allowed}"));
    check("mqtt.topics = [1]", &format!("t.toml line 1: mqtt.topics = [1] is refused; {allowed}"));
    check(
        "mqtt.topics = ['a: json', 'b: jsn']",
        &format!(
            "t.toml line 1: mqtt.topics = ['a: json', 'b: jsn'] is refused; {allowed}; \
             rule 2: found `jsn` at byte 3, expected json, string, int64, double, binary or refuse"
        ),
    );
}

#[test]
fn a_text_has_a_bound_and_no_zero() {
    let reference = |text: &str| check_accepted(text).limits.mqtt.server_reference;
    assert_eq!(&*reference("mqtt.server_reference = 'other:1883'"), "other:1883");
    check_accepted(&format!("mqtt.server_reference = '{}'", "x".repeat(1024)));
    let long = format!("'{}'", "x".repeat(1025));
    for text in [&*long, "\"a\\u0000\"", "1"] {
        let message = format!("t.toml line 1: mqtt.server_reference = {text} is refused; allowed: a text of at most 1024 bytes");
        check(&format!("mqtt.server_reference = {text}"), &message);
    }
}

#[test]
fn authenticators_stand_in_their_order_and_once() {
    let chain = |text: &str| check_accepted(text).authentication.chain;
    assert_eq!(chain(""), [Authenticator::Principals]);
    assert_eq!(chain("authentication.chain = []"), []);
    let text = "authentication.chain = ['jwt', 'principals']\njwt.secret_file = 's'";
    assert_eq!(chain(text), [Authenticator::Jwt, Authenticator::Principals]);
    let allowed = format!("allowed: {}", Authenticator::TAKES);
    assert_eq!(chain("authentication.chain = ['principals', 'control:a:b']")[1], Authenticator::Control("a:b".into()));
    for (value, wrong) in [
        ("['ldap']", "there is no \"ldap\""),
        ("['control:']", "there is no \"control:\""),
        ("['control:a/b']", "there is no \"control:a/b\""),
        ("['principals', 'principals']", "\"principals\" stands twice"),
    ] {
        check(
            &format!("authentication.chain = {value}"),
            &format!("t.toml line 1: authentication.chain = {value} is refused; {allowed}; {wrong}"),
        );
    }
}

#[test]
fn an_authenticator_has_what_it_needs() {
    check(
        "authentication.chain = ['webhook']",
        "default: webhook.url = its default is refused; allowed: a URL of https, or of http on this host, as authentication.chain has \"webhook\"",
    );
    let either = "allowed: either this or jwt.secret_file, as authentication.chain has \"jwt\"";
    check("authentication.chain = ['jwt']", &format!("default: jwt.keys = its default is refused; {either}"));
    check(
        "authentication.chain = ['jwt']\njwt.keys = 'k'\njwt.secret_file = 's'",
        &format!("t.toml line 2: jwt.keys = 'k' is refused; {either}"),
    );
    check_accepted("authentication.chain = ['jwt', 'webhook']\njwt.secret_file = 's'\nwebhook.url = 'http://127.0.0.1:1/'");
    check_accepted("jwt.keys = 'k'\njwt.secret_file = 's'");
}

#[test]
fn secrets_are_sent_nowhere_in_the_clear() {
    check(
        "webhook.url = 'http://a.example/'",
        "t.toml line 1: webhook.url = 'http://a.example/' is refused; allowed: a URL of https, or of http on this host",
    );
    check(
        "jwt.keys = 'http://a.example/'",
        "t.toml line 1: jwt.keys = 'http://a.example/' is refused; allowed: a file's path, or a URL of https, or of http on this host",
    );
    check_accepted("webhook.url = 'https://a.example/'\njwt.keys = 'https://a.example/keys'");
}

#[test]
fn each_lane_of_a_password_has_its_memory() {
    check_accepted("authentication.password_lanes = 4\nauthentication.password_memory_kib = 32");
    check(
        "authentication.password_lanes = 4\nauthentication.password_memory_kib = 31",
        "t.toml line 2: authentication.password_memory_kib = 31 is refused; allowed: at least 32, 8 for each of authentication.password_lanes",
    );
}

#[test]
fn lists_of_tokens_and_certificates_are_read() {
    let config = check_accepted(
        "jwt.algorithms = ['ES256']\njwt.properties = ['A: /b:c']\njwt.role_map = ['ops-*: X Y']\ncertificate.roles = ['*: Z']",
    );
    assert_eq!(config.authentication.jwt.algorithms, ["ES256"]);
    assert_eq!(config.authentication.jwt.properties, [("A".into(), "/b:c".into())]);
    assert!(config.authentication.jwt.role_map[0].has("ops-1") && config.authentication.certificates[0].has("x"));
    let takes = format!("allowed: {}", Jwt::ALGORITHMS_TAKE);
    check("jwt.algorithms = ['none']", &format!("t.toml line 1: jwt.algorithms = ['none'] is refused; {takes}; there is no \"none\""));
    check("jwt.algorithms = []", &format!("t.toml line 1: jwt.algorithms = [] is refused; {takes}; there is none"));
    check(
        "certificate.roles = ['x']",
        &format!("t.toml line 1: certificate.roles = ['x'] is refused; allowed: {}; \"x\" is none", NameRoles::TAKES),
    );
    check(
        "jwt.properties = ['x']",
        &format!("t.toml line 1: jwt.properties = ['x'] is refused; allowed: {}; \"x\" is none", Jwt::PROPERTIES_TAKE),
    );
}
