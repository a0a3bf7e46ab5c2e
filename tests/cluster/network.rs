//! The fake network: messages are lost, late and doubled, and ways are cut in one direction or both, as chance decides.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use tidewire::surface::consensus::{Answer, Asking, Dial, Inbox, NodeId, Request, Unreached};

use crate::random::Random;

/// What the ways do to messages.
#[derive(Clone, Copy)]
pub struct Weather {
    /// Percents of messages, each way.
    pub lost: u64,
    pub doubled: u64,
    /// A message takes up to so long.
    pub delay_ms_max: u64,
}

impl Weather {
    pub const FAIR: Self = Self { lost: 0, doubled: 0, delay_ms_max: 2 };
    pub const FOUL: Self = Self { lost: 10, doubled: 5, delay_ms_max: 40 };
}

#[derive(Clone)]
pub struct Network(Rc<RefCell<State>>);

struct State {
    random: Random,
    weather: Weather,
    /// From whom nothing comes to whom.
    cut: BTreeSet<(NodeId, NodeId)>,
    nodes: BTreeMap<NodeId, Inbox>,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x6e65_7477_6f72_6b73);
        Self(Rc::new(RefCell::new(State { random, weather: Weather::FAIR, cut: BTreeSet::new(), nodes: BTreeMap::new() })))
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.borrow_mut().weather = weather;
    }

    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.borrow_mut().cut.insert((from, to));
    }

    pub fn cut_both(&self, one: NodeId, other: NodeId) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn heal(&self) {
        self.0.borrow_mut().cut.clear();
    }

    pub fn join(&self, node: NodeId, inbox: Inbox) {
        self.0.borrow_mut().nodes.insert(node, inbox);
    }

    pub fn leave(&self, node: NodeId) {
        self.0.borrow_mut().nodes.remove(&node);
    }

    /// How `from` reaches others.
    pub fn dial(&self, from: NodeId) -> Dial {
        let network = self.clone();
        Rc::new(move |to, _lane, request| -> Asking { Box::pin(network.clone().carry(from, to, request)) })
    }

    async fn carry(self, from: NodeId, to: NodeId, request: Request) -> Result<Answer, Unreached> {
        self.pass(from, to).await;
        let inbox = self.0.borrow().nodes.get(&to).cloned().ok_or(Unreached::Unanswered)?;
        if self.chance(|weather| weather.doubled) {
            let (network, inbox, request) = (self.clone(), inbox.clone(), request.clone());
            tokio::task::spawn_local(async move {
                network.pass(from, to).await;
                // Nobody hears the second answer.
                let _ = inbox.answer(request).await;
            });
        }
        let answer = inbox.answer(request).await?;
        self.pass(to, from).await;
        Ok(answer)
    }

    /// Takes as long as a message takes, for ever if it is lost.
    async fn pass(&self, from: NodeId, to: NodeId) {
        let delay = {
            let mut state = self.0.borrow_mut();
            let delay_ms_max = state.weather.delay_ms_max;
            state.random.below(delay_ms_max * 1000 + 1)
        };
        tokio::time::sleep(Duration::from_micros(delay)).await;
        if self.0.borrow().cut.contains(&(from, to)) || self.chance(|weather| weather.lost) {
            pending::<()>().await;
        }
    }

    fn chance(&self, of: impl Fn(&Weather) -> u64) -> bool {
        let mut state = self.0.borrow_mut();
        let percent = of(&state.weather);
        state.random.percent(percent)
    }
}
