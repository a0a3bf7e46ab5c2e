//! What tables `[[listener]]` come to, and which are refused.

use super::{check, check_accepted};
use crate::config::listener::SETTINGS;
use crate::config::{Listener, Protocol, REFERENCE, check_text};
use crate::transport::{ClientCertificates, Version};
use crate::wire::forwarded::Networks;
use crate::wire::origin::{Hosts, Origins};

/// The example at the end of the reference, as somebody has it who takes the marks off.
fn example() -> String {
    let (_, example) = REFERENCE.split_once("#[[listener]]").expect("there is an example");
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => setting,
        _ => "",
    });
    format!("[[listener]]\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_example_of_the_reference_is_taken() {
    let config = check_text(&example(), "default.toml").expect("the example is right");
    let owned = |text: &str| [text.to_owned()];
    let expected = Listener {
        name: "public".into(),
        address: "127.0.0.1:8443".parse().unwrap(),
        protocol: Protocol::Http,
        certificate_files: vec!["/etc/tidewire/public.pem".into()],
        key_files: vec!["/etc/tidewire/public.key".into()],
        version_min: Version::Tls12,
        client_certificates: ClientCertificates::Required,
        client_ca_file: Some("/etc/tidewire/clients-ca.pem".into()),
        hosts: Some(Hosts::parse(&owned("tide.example.com")).unwrap()),
        origins: Some(Origins::parse(&owned("https://app.example.com")).unwrap()),
        has_proxy_protocol: false,
        trusted_proxies: Networks::parse(&owned("127.0.0.1")).unwrap(),
    };
    assert_eq!(config.listeners, [expected]);
    assert_eq!(config.all_listeners().iter().map(Listener::scheme).collect::<Vec<_>>(), ["http", "mqtt", "https"]);
}

#[test]
fn the_reference_has_every_setting_of_a_listener_and_what_it_takes() {
    let (_, example) = REFERENCE.split_once("#[[listener]]\n").expect("there is an example");
    for setting in SETTINGS {
        let (_, name) = setting.key.split_once('.').unwrap();
        let (before, _) = example.split_once(&format!("\n#{name} = ")).expect(setting.key);
        let paragraph = before.rsplit("\n\n").next().unwrap();
        let allowed = format!("Allowed: {}", setting.allowed());
        assert!(paragraph.contains(&allowed), "{}: {allowed}", setting.key);
    }
    assert_eq!(example.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")).count(), SETTINGS.len());
}

#[test]
fn each_listener_has_its_own_rules_and_those_of_the_server_where_it_has_none() {
    let config = check_accepted(
        "server.origins = ['http://a.example']\nserver.hosts = ['s.example']\n\
         [[listener]]\nname = 'one'\naddress = '127.0.0.1:1'\n\
         [[listener]]\nname = 'two'\naddress = '0.0.0.0:2'\norigins = ['http://b.example']\nhosts = []\n\
         [[listener]]\nname = 'three'\naddress = '127.0.0.1:3'\nprotocol = 'mqtt'\n",
    );
    let origins = |text: &str| Origins::parse(&[text.to_owned()]).unwrap();
    let [_, _, one, two, three] = &config.all_listeners()[..] else { panic!("five listeners") };
    assert_eq!(config.web(one).origins, origins("http://a.example"));
    assert_eq!(config.web(one).hosts, Hosts::parse(&["s.example".to_owned()]).unwrap());
    assert_eq!((config.web(two).origins, config.web(two).hosts), (origins("http://b.example"), Hosts::Any));
    assert_eq!((three.protocol, three.has_tls()), (Protocol::Mqtt, false));
}

#[test]
fn the_short_forms_may_be_off_where_there_is_a_listener() {
    let off = "server.listen = 'off'\nmqtt.listen = 'off'\n";
    check(off, "t.toml line 1: server.listen = 'off' is refused; allowed: an address, as there is no other listener");
    let config = check_accepted(&format!("{off}[[listener]]\nname = 'a'\naddress = '127.0.0.1:1'\n"));
    assert_eq!((config.all_listeners().len(), config.has_mqtt()), (1, false));
    let config = check_accepted(&format!("{off}[[listener]]\nname = 'a'\naddress = '127.0.0.1:1'\nprotocol = 'mqtt'\n"));
    assert!(config.has_mqtt());
}

/// A table with a name, an address and this.
fn check_table(rest: &str, message: &str) {
    check(&format!("[[listener]]\nname = 'a'\naddress = '127.0.0.1:1'\n{rest}"), message);
}

#[test]
fn a_setting_that_is_wrong_is_told_with_its_line() {
    check_table("adress = 'x'", "t.toml line 4: unknown key listener.adress; did you mean listener.address?");
    check_table("protocol = 'ws'", "t.toml line 4: listener.protocol = 'ws' is refused; allowed: http, mqtt");
    check_table("proxy_protocol = 1", "t.toml line 4: listener.proxy_protocol = 1 is refused; allowed: true or false");
    check_table(
        "trusted_proxies = ['10.0.0.0/40']",
        "t.toml line 4: listener.trusted_proxies = ['10.0.0.0/40'] is refused; allowed: a list of networks; \
         `10.0.0.0/40` is no network such as 10.0.0.0/8 or fd00::/8",
    );
    check_table(
        "certificate_files = ['']",
        "t.toml line 4: listener.certificate_files = [''] is refused; allowed: a list of files in PEM; an empty name is no file's",
    );
    check("[listener]\nname = 'a'", "t.toml line 2: listener = 'a' is refused; allowed: tables that begin with [[listener]]");
}

#[test]
fn a_setting_that_is_missing_is_told_with_its_table() {
    check("\n[[listener]]\nname = 'a'", "t.toml line 2: listener.address is missing; expected: ADDR:PORT");
    check("[[listener]]\naddress = '127.0.0.1:1'", "t.toml line 1: listener.name is missing; expected: a text of at most 64 bytes");
    check_table("proxy_protocol = true", "t.toml line 1: listener.trusted_proxies is missing; expected: a list of networks");
    check_table(
        "certificate_files = ['c']\nkey_files = ['k']\nclient_certificates = 'required'",
        "t.toml line 1: listener.client_ca_file is missing; expected: a text of at most 4096 bytes",
    );
}

#[test]
fn settings_of_a_listener_fit_each_other() {
    check(
        "[[listener]]\nname = 'a'\naddress = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'\nname = 'a'",
        "t.toml line 6: listener.name = 'a' is refused; allowed: a name that no other listener has",
    );
    let both = "as many files as listener.certificate_files and listener.key_files both have";
    check_table("certificate_files = ['c']", &format!("t.toml line 4: listener.certificate_files = ['c'] is refused; allowed: {both}"));
    check_table(
        "certificate_files = ['c']\nkey_files = ['k', 'l']",
        &format!("t.toml line 5: listener.key_files = ['k', 'l'] is refused; allowed: {both}"),
    );
    check_table(
        "client_certificates = 'optional'",
        "t.toml line 4: listener.client_certificates = 'optional' is refused; allowed: none, unless listener.certificate_files are there",
    );
    check_table(
        "client_ca_file = 'x'",
        "t.toml line 4: listener.client_ca_file = 'x' is refused; allowed: nothing, unless listener.client_certificates is optional or required",
    );
    check_table(
        "tls_version_min = '1.3'",
        "t.toml line 4: listener.tls_version_min = '1.3' is refused; allowed: nothing, unless listener.certificate_files are there",
    );
    check_table(
        "protocol = 'mqtt'\norigins = ['*']",
        "t.toml line 5: listener.origins = ['*'] is refused; allowed: nothing, unless listener.protocol is http",
    );
}

#[test]
fn a_listener_is_on_loopback_where_nobody_is_asked_who_clients_are() {
    let table = "[[listener]]\nname = 'a'\naddress = '0.0.0.0:1'\n";
    check(
        &format!("server.dev = true\n{table}"),
        "t.toml line 4: listener.address = '0.0.0.0:1' is refused; allowed: a loopback address such as 127.0.0.1:1 or [::1]:1, \
         as nobody is asked who clients are: authentication.chain is empty",
    );
    assert!(check_accepted(table).exposure().starts_with("reachable from other hosts"));
}
