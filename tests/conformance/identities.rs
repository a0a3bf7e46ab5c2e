//! Who clients are: what is asked of authenticators, what waits meanwhile, and what comes of their word.

use crate::frames::{FIN, TEXT, frame};
use crate::peer::{self, Peer};
use tidewire::surface::base::Time;
use tidewire::surface::shard::{Identified, Limits, Shown, Who};

fn peer() -> Peer {
    Peer::upgraded_within("tidewire.1.json", Limits { authenticates: true, ..peer::limits() })
}

fn say(peer: &mut Peer, text: &str) {
    peer.give(&frame(FIN | TEXT, text.as_bytes()));
}

fn heard(peer: &mut Peer) -> String {
    String::from_utf8_lossy(&peer.take()).into_owned()
}

fn ann(expires: Option<Time>) -> Identified {
    Identified::As(Who::new("ann".into(), vec!["B".into(), "A".into()], expires), Box::from([("tier".into(), "gold".into())]))
}

#[test]
fn what_comes_behind_connect_waits_until_it_is_known_who_the_client_is() {
    let mut peer = peer();
    // In one message with CONNECT, and in one behind it.
    say(
        &mut peer,
        r#"[{"op":"connect","id":1,"principal":"ann","password":"pw","properties":{"tier":"lead","x":"y"}},{"op":"add","id":2,"path":"a","type":"json"},{"op":"list_sessions","id":3}]"#,
    );
    say(&mut peer, r#"{"op":"fetch","id":4,"selector":"?a//"}"#);
    assert_eq!(heard(&mut peer), "");
    let claims = peer.take_claims();
    assert_eq!((claims.len(), &*claims[0].principal, claims[0].properties.len()), (1, "ann", 2));
    assert!(matches!(&claims[0].shown, Shown::Password(password) if ***password == *b"pw"));
    assert!(!format!("{:?}", claims[0]).contains("pw"));
    peer.identify(ann(None));
    (1..10).for_each(|turn| peer.tick(turn));
    let heard = heard(&mut peer);
    let order = ["welcome", r#""id":2"#, r#""id":4"#];
    let places: Vec<Option<usize>> = order.iter().map(|text| heard.find(text)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {heard}");
    assert!(heard.contains(r#""$Principal":"ann""#) && heard.contains(r#""tier":"gold""#), "{heard}");
    assert!(heard.contains(r#""$Roles":"\"A\" \"B\"""#) && !heard.contains("lead") && !heard.contains(r#""x":"y""#), "{heard}");
    // A word that nobody waits for does nothing.
    peer.identify(Identified::Refused(Default::default()));
    assert!(!peer.is_ended());
}

#[test]
fn what_a_client_shows_is_wiped_where_it_was_read() {
    let is_there = |bytes: &[u8]| bytes.windows(6).any(|part| part == b"secret");
    let requests = [
        r#"{"op":"connect","id":1,"principal":"ann","password":"secret"}"#,
        r#"{"op":"authenticate","id":2,"bearer":"secret"}"#,
        r#"{"op":"add","id":3,"path":"secret","type":"json"}"#,
    ];
    let mut peer = peer();
    for (text, stays) in requests.into_iter().zip([false, false, true]) {
        let mut bytes = frame(FIN | TEXT, text.as_bytes());
        peer.read(Time(1), &mut bytes);
        assert_eq!(is_there(&bytes), stays, "{text}");
        peer.identify(ann(None));
    }
    let heard = heard(&mut peer);
    assert!(heard.contains("welcome") && heard.contains(r#""op":"ok","id":2"#) && heard.contains(r#""op":"ok","id":3"#), "{heard}");
}

#[test]
fn a_client_that_is_refused_is_told_and_closed() {
    let mut peer = peer();
    say(&mut peer, r#"[{"op":"connect","id":7,"bearer":"token"},{"op":"add","id":2,"path":"a","type":"json"}]"#);
    assert!(matches!(&peer.take_claims()[0].shown, Shown::Bearer(token) if ***token == *b"token"));
    peer.identify(Identified::Refused(Default::default()));
    let heard = heard(&mut peer);
    assert!(heard.contains(r#""id":7,"code":109,"name":"authentication_failed""#), "{heard}");
    assert!(heard.contains("\u{10}\u{c}the authentication failed") || peer.is_ended(), "{heard}");
    assert!(!heard.contains(r#""id":2"#), "{heard}");
}

#[test]
fn a_client_that_cannot_be_judged_now_is_told_when_to_come() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":7}"#);
    assert!(matches!(peer.take_claims()[0].shown, Shown::Nothing));
    peer.identify(Identified::Later { wait_ms: 1234, said: Default::default() });
    let heard = heard(&mut peer);
    assert!(heard.contains(r#""op":"later""#) && heard.contains("1234"), "{heard}");
}

#[test]
fn a_session_ends_when_what_its_client_showed_is_worth_nothing_any_more() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","resume_ms":60000}"#);
    peer.identify(ann(Some(Time(2_000_000_000))));
    assert!(heard(&mut peer).contains("welcome"));
    peer.tick(1900);
    assert_eq!(heard(&mut peer), "");
    peer.tick(2000);
    let heard = heard(&mut peer);
    assert!(heard.contains("what the client showed is worth nothing any more"), "{heard}");
}

fn as_who(principal: &str, role: &str, properties: &[(&str, &str)]) -> Identified {
    let properties = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Identified::As(Who::new(principal.into(), vec![role.into()], None), properties)
}

fn connected() -> Peer {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","password":"pw","resume_ms":60000,"properties":{"seat":"1"}}"#);
    peer.identify(as_who("ann", "A", &[("seat", "1"), ("tier", "gold")]));
    assert!(heard(&mut peer).contains("welcome"));
    peer.take_claims();
    peer
}

#[test]
fn a_client_shows_anew_who_it_is_and_what_comes_behind_waits_for_that() {
    let mut peer = connected();
    say(&mut peer, r#"[{"op":"authenticate","id":5,"principal":"bob","password":"of bob"},{"op":"list_sessions","id":6}]"#);
    say(&mut peer, r#"{"op":"fetch","id":7,"selector":"?a//"}"#);
    assert_eq!(heard(&mut peer), "");
    let claims = peer.take_claims();
    assert_eq!((claims.len(), &*claims[0].principal, claims[0].properties.len()), (1, "bob", 0));
    assert!(matches!(&claims[0].shown, Shown::Password(password) if ***password == *b"of bob"));
    peer.identify(as_who("bob", "B", &[("tier", "silver")]));
    (1..10).for_each(|turn| peer.tick(turn));
    let heard = heard(&mut peer);
    let [first, listed, found] = [5, 6, 7].map(|id| heard.find(&format!(r#""op":"ok","id":{id}"#)));
    assert!(first.is_some() && first < listed && first < found, "{heard}");
    for text in [r#""$Principal":"bob""#, r#""$Roles":"\"B\"""#, r#""tier":"silver""#] {
        assert!(heard.contains(text), "{text} in {heard}");
    }
    assert!(!heard.contains("seat"), "what was said of the other is not this one's: {heard}");
    // A word that nobody waits for does nothing.
    peer.identify(as_who("eve", "E", &[]));
    say(&mut peer, r#"{"op":"list_sessions","id":8}"#);
    (1..10).for_each(|turn| peer.tick(turn));
    assert!(self::heard(&mut peer).contains(r#""$Principal":"bob""#));
}

#[test]
fn a_client_that_cannot_show_it_goes_on_as_who_it_was() {
    for (identified, code) in [
        (Identified::Refused(Default::default()), r#""id":5,"code":109,"name":"authentication_failed""#),
        (Identified::Later { wait_ms: 1234, said: Default::default() }, r#""id":5,"code":400,"name":"overloaded""#),
    ] {
        let mut peer = connected();
        say(&mut peer, r#"[{"op":"authenticate","id":5,"bearer":"token"},{"op":"list_sessions","id":6}]"#);
        assert!(matches!(&peer.take_claims()[0].shown, Shown::Bearer(token) if ***token == *b"token"));
        peer.identify(identified);
        (1..10).for_each(|turn| peer.tick(turn));
        let heard = heard(&mut peer);
        assert!(heard.contains(code), "{heard}");
        assert!(heard.contains(r#""$Principal":"ann""#) && heard.contains(r#""tier":"gold""#), "{heard}");
        assert!(!peer.is_ended());
    }
}

#[test]
fn what_is_shown_in_time_takes_the_place_of_what_expires() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","resume_ms":60000}"#);
    peer.identify(ann(Some(Time(2_000_000_000))));
    say(&mut peer, r#"{"op":"authenticate","id":2,"bearer":"newer"}"#);
    peer.identify(ann(Some(Time(4_000_000_000))));
    assert!(heard(&mut peer).contains(r#""op":"ok","id":2"#));
    peer.tick(3900);
    assert_eq!(heard(&mut peer), "");
    peer.tick(4000);
    let heard = heard(&mut peer);
    assert!(heard.contains("what the client showed is worth nothing any more"), "{heard}");
}

#[test]
fn where_nobody_is_asked_a_client_may_show_what_it_likes() {
    let mut peer = Peer::upgraded_within("tidewire.1.json", peer::limits());
    say(&mut peer, r#"[{"op":"connect","id":1},{"op":"authenticate","id":2,"principal":"ann","password":"pw"}]"#);
    let heard = heard(&mut peer);
    assert!(heard.contains(r#""op":"ok","id":2"#) && peer.take_claims().is_empty(), "{heard}");
}

#[test]
fn what_has_expired_ends_the_session_however_often_its_client_tries() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","resume_ms":60000}"#);
    peer.identify(ann(Some(Time(2_000_000_000))));
    heard(&mut peer);
    say(&mut peer, r#"[{"op":"authenticate","id":2,"bearer":"wrong"},{"op":"authenticate","id":3,"bearer":"wrong"}]"#);
    // It is waited for what it shows.
    peer.tick(2500);
    assert_eq!(heard(&mut peer), "");
    peer.identify_at(2600, Identified::Refused(Default::default()));
    let heard = heard(&mut peer);
    assert!(heard.contains("what the client showed is worth nothing any more") && !heard.contains(r#""op":"ok""#), "{heard}");
    peer.tick(20_000);
    assert!(peer.is_ended());
}

#[test]
fn a_session_that_another_connection_took_over_expires_as_any() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","resume_ms":60000}"#);
    peer.identify(ann(Some(Time(5_000_000_000))));
    let token = member(&heard(&mut peer), "token").to_owned();
    say(&mut peer, r#"{"op":"authenticate","id":2,"bearer":"newer"}"#);
    peer.another("tidewire.1.json");
    say(&mut peer, &format!(r#"{{"op":"connect","id":1,"token":"{token}","processed":0}}"#));
    assert!(heard(&mut peer).contains("welcome"));
    peer.tick(5000);
    let heard = heard(&mut peer);
    assert!(heard.contains("what the client showed is worth nothing any more"), "{heard}");
}

/// What is in quotes behind this.
fn member<'h>(heard: &'h str, name: &str) -> &'h str {
    let (_, rest) = heard.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("{name} in {heard}"));
    rest.split('"').next().unwrap()
}

#[test]
fn nobody_comes_to_another_s_session_by_a_token_of_before() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann","resume_ms":60000}"#);
    peer.identify(as_who("ann", "A", &[]));
    let first = member(&heard(&mut peer), "token").to_owned();
    // The same: its token stays.
    say(&mut peer, r#"{"op":"authenticate","id":2,"principal":"ann"}"#);
    peer.identify(as_who("ann", "A", &[]));
    assert_eq!(member(&heard(&mut peer), "token"), "");
    say(&mut peer, r#"{"op":"authenticate","id":3,"principal":"bob"}"#);
    peer.identify(as_who("bob", "B", &[]));
    let second = member(&heard(&mut peer), "token").to_owned();
    assert!(first != second && !second.is_empty());
    peer.reconnect("tidewire.1.json");
    for (token, says) in [(&first, r#""code":107"#), (&second, r#""op":"welcome""#)] {
        say(&mut peer, &format!(r#"{{"op":"connect","id":1,"token":"{token}","processed":0}}"#));
        let heard = heard(&mut peer);
        assert!(heard.contains(says), "{heard}");
    }
}

#[test]
fn a_session_takes_no_more_properties_from_authenticators_than_it_may_have() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann"}"#);
    let many: Vec<String> = (0..64).map(|number| format!("p{number:02}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (&**key, "1")).collect();
    peer.identify(as_who("ann", "A", &many));
    say(&mut peer, r#"[{"op":"authenticate","id":5,"principal":"ann"},{"op":"list_sessions","id":6}]"#);
    peer.identify(as_who("ann", "B", &[("p00", "2"), ("q", "1")]));
    (1..10).for_each(|turn| peer.tick(turn));
    let heard = heard(&mut peer);
    assert!(heard.contains(r#""id":5,"code":319"#), "{heard}");
    assert!(heard.contains(r#""$Roles":"\"A\"""#) && heard.contains(r#""p00":"1""#), "{heard}");
}
