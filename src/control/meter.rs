//! Reads what was counted, beside the controller: of a hundred thousand addresses
//! it takes a while, and no request waits for it.

use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use crate::kernel::{Meter, Traffic};
use crate::model::FloatingIp;

use super::Rejection;

/// What was counted, or why it cannot be told.
type Answer = Result<Vec<(FloatingIp, Traffic)>, Rejection>;

/// A question: of which addresses, and where the answer goes.
type Question = (Vec<FloatingIp>, oneshot::Sender<Answer>);

/// The fronts' end of the thread that reads counters.
#[derive(Clone, Debug)]
pub struct Counters {
    questions: Sender<Question>,
}

impl Counters {
    /// Starts the thread. It ends when nobody holds this end any more.
    pub fn start(meter: Box<dyn Meter>) -> std::io::Result<Self> {
        let (questions, queue) = channel();
        std::thread::Builder::new()
            .name("counters".into())
            .spawn(move || run(meter, &queue))?;
        Ok(Self { questions })
    }

    /// Reads what went through these addresses. One that is not counted is left
    /// out.
    pub async fn read(&self, addresses: Vec<FloatingIp>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.questions
            .send((addresses, reply))
            .map_err(|_| Rejection::Stopping)?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }
}

fn run(mut meter: Box<dyn Meter>, queue: &Receiver<Question>) {
    while let Ok((addresses, reply)) = queue.recv() {
        let read = meter
            .read(&addresses)
            .map_err(|error| Rejection::KernelFailed(error.to_string()));
        // Who hung up meanwhile does not want to know.
        let _ = reply.send(read);
    }
}
