//! A server of a few lines that speaks JSON, this server's or Centrifugo's: one thread for each connection, one lock around everything.
//!
//! It checks what the generator sends by a whole JSON parser, and sends several objects in a message where the protocol lets it.

use super::{Fault, selects};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tidewire_loadtest::dialect::json;
use tidewire_loadtest::websocket::{self, Opcode};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tidewire,
    Centrifugo,
}

struct Link {
    stream: TcpStream,
    selectors: Vec<String>,
    /// Whether the ping that followed the greeting was answered: who does not answer is sent nothing.
    is_answering: bool,
}

struct World {
    protocol: Protocol,
    fault: Fault,
    topics: BTreeMap<String, (usize, String)>,
    links: Vec<Link>,
    updates: u64,
}

/// Starts the server on a port of its own; it ends with the process.
pub fn start(protocol: Protocol, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let world = Arc::new(Mutex::new(World { protocol, fault, topics: BTreeMap::new(), links: Vec::new(), updates: 0 }));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let world = Arc::clone(&world);
            std::thread::spawn(move || serve(stream, &world));
        }
    });
    address
}

fn serve(mut stream: TcpStream, world: &Mutex<World>) -> Option<()> {
    let (mut received, mut buffer, mut link) = (Vec::new(), [0; 65_536], None);
    loop {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        received.extend_from_slice(&buffer[..length]);
        if link.is_none() {
            let head = String::from_utf8_lossy(&received).into_owned();
            let Some(end) = head.find("\r\n\r\n") else { continue };
            let mut world = world.lock().expect("no test panics with the lock");
            stream.write_all(world.upgrade(&head)?.as_bytes()).ok()?;
            received.drain(..end + 4);
            link = Some(world.links.len());
            let stream = stream.try_clone().expect("a socket can be cloned");
            world.links.push(Link { stream, selectors: Vec::new(), is_answering: false });
        }
        while let Some((opcode, payload, length)) = websocket::take_client_frame(&received) {
            received.drain(..length);
            assert!(opcode == Opcode::Text);
            let text = String::from_utf8(payload).expect("the generator sends UTF-8");
            let request: Value = serde_json::from_str(&text).expect("the generator sends JSON");
            let mut world = world.lock().expect("no test panics with the lock");
            let link = link.expect("the upgrade came first");
            match world.protocol {
                Protocol::Tidewire => world.handle_tidewire(link, &request, &text)?,
                Protocol::Centrifugo => world.handle_centrifugo(link, &request, &text)?,
            }
        }
    }
}

/// The text of the member `name`, as it stands in `text`.
fn raw<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.find(&format!("\"{name}\":")).expect("the member is there") + name.len() + 3;
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
    values.next().expect("a value").expect("a whole value");
    &text[at..at + values.byte_offset()]
}

impl World {
    fn upgrade(&self, head: &str) -> Option<String> {
        let answer = websocket::accept_upgrade(head, json::SUBPROTOCOL)?;
        let is_offered = head.contains(json::SUBPROTOCOL);
        assert!(is_offered == (self.protocol == Protocol::Tidewire));
        Some(if is_offered { answer } else { answer.replace(&format!("Sec-WebSocket-Protocol: {}\r\n", json::SUBPROTOCOL), "") })
    }

    /// Sends objects in one message.
    fn send(&mut self, link: usize, objects: &[String]) {
        let text = match (self.protocol, objects) {
            (Protocol::Tidewire, [one]) => one.clone(),
            (Protocol::Tidewire, many) => format!("[{}]", many.join(",")),
            (Protocol::Centrifugo, many) => many.join("\n"),
        };
        let mut message = Vec::new();
        websocket::encode_server_frame(Opcode::Text, text.as_bytes(), &mut message);
        // Who has gone is sent nothing more.
        let _ = self.links[link].stream.write_all(&message);
    }

    /// Does one request; none ends the connection.
    fn handle_tidewire(&mut self, link: usize, request: &Value, text: &str) -> Option<()> {
        let id = request["id"].as_u64().unwrap_or(0);
        let name = |key: &str| request[key].as_str().expect("a member that is a string").to_owned();
        match request["op"].as_str().expect("an operation") {
            "connect" => {
                self.send(link, &[json!({"op": "welcome", "id": id, "keep_alive_ms": 200}).to_string(), json!({"op": "ping"}).to_string()])
            }
            "pong" => self.links[link].is_answering = true,
            "ping" => self.send(link, &[json!({"op": "pong"}).to_string()]),
            "close" => return None,
            "subscribe" if self.fault == Fault::RefuseSubscribe => {
                self.send(
                    link,
                    &[json!({"op": "error", "id": id, "code": 201, "name": "invalid_selector", "message": "not today"}).to_string()],
                );
            }
            "subscribe" => {
                let selector = name("selector");
                let mut objects = Vec::new();
                for (path, (number, value)) in self.topics.iter().filter(|(path, _)| selects(&selector, path)) {
                    objects.push(json!({"op": "subscribed", "topic": number, "path": path, "type": "json", "properties": {}}).to_string());
                    objects.push(format!(r#"{{"op":"value","topic":{number},"path":"{path}","value":{value}}}"#));
                }
                objects.push(json!({"op": "ok", "id": id}).to_string());
                self.send(link, &objects);
                self.links[link].selectors.push(selector);
            }
            op @ ("add_and_set" | "set") => {
                let (path, value, number) = (name("path"), raw(text, "value"), self.topics.len() + 1);
                assert!(op == "set" || name("type") == "json");
                let topic = self.topics.entry(path.clone()).or_insert((number, String::new()));
                topic.1 = value.to_owned();
                let number = topic.0;
                if op == "set" {
                    self.fan_out(&path, value, |path, value| {
                        format!(r#"{{"op":"value","topic":{number},"path":"{path}","value":{value}}}"#)
                    });
                }
                if id != 0 {
                    self.send(link, &[json!({"op": "ok", "id": id}).to_string()]);
                }
            }
            "remove" => {
                let selector = name("selector");
                self.topics.retain(|path, _| !selects(&selector, path));
                self.send(link, &[json!({"op": "ok", "id": id, "removed": 1}).to_string()]);
            }
            op => panic!("{op} is not for a load"),
        }
        Some(())
    }

    /// Does one command; none ends the connection.
    fn handle_centrifugo(&mut self, link: usize, command: &Value, text: &str) -> Option<()> {
        if command == &json!({}) {
            self.links[link].is_answering = true;
            return Some(());
        }
        let id = command["id"].as_u64().filter(|id| *id > 0)?;
        if command["connect"].is_object() {
            self.send(link, &[json!({"id": id, "connect": {"client": "c", "ping": 25, "pong": true}}).to_string(), "{}".to_owned()]);
        } else if let Some(channel) = command["subscribe"]["channel"].as_str() {
            if self.fault == Fault::RefuseSubscribe {
                self.send(link, &[json!({"id": id, "error": {"code": 103, "message": "permission denied"}}).to_string()]);
                return Some(());
            }
            self.links[link].selectors.push(channel.to_owned());
            self.send(link, &[json!({"id": id, "subscribe": {}}).to_string()]);
        } else {
            let channel = command["publish"]["channel"].as_str().expect("a channel").to_owned();
            self.fan_out(&channel, raw(text, "data"), |channel, data| {
                format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data},"info":{{"client":"c","user":""}}}}}}}}"#)
            });
            self.send(link, &[json!({"id": id, "publish": {}}).to_string()]);
        }
        Some(())
    }

    fn fan_out(&mut self, path: &str, value: &str, write: impl Fn(&str, &str) -> String) {
        self.updates += 1;
        let mut objects = vec![write(path, value)];
        if self.updates % 10 == 5 {
            match self.fault {
                Fault::Drop => return,
                Fault::Repeat => objects.push(write(path, value)),
                Fault::Corrupt => objects = vec![write(path, &value.replace("\"}", "0\"}"))],
                Fault::Malformed => objects = vec![write(path, "")],
                _ => {}
            }
        }
        for link in 0..self.links.len() {
            let one = &self.links[link];
            if one.is_answering && one.selectors.iter().any(|selector| selects(selector, path)) {
                self.send(link, &objects);
            }
        }
    }
}
