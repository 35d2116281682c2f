//! What happens, told to everybody on the bus.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::watch;
use zbus::Connection;
use zbus::object_server::InterfaceRef;

use crate::control::{AddressState, Handle, Published, Snapshot};
use crate::model::{Event, Sequence};

use super::OBJECT_PATH;
use super::manager::{Manager, ManagerSignals, state};

/// Forwards events as signals and the state of the daemon as a property, until
/// the bus takes no more.
pub(super) async fn forward(connection: &Connection, handle: &Handle) -> zbus::Error {
    let failed: zbus::Result<Infallible> = async {
        let manager = connection.object_server().interface(OBJECT_PATH).await?;
        tokio::select! {
            failed = events(&manager, handle) => failed,
            failed = turns(&manager, handle.watch()) => failed,
        }
    }
    .await;
    let Err(error) = failed;
    error
}

async fn events(manager: &InterfaceRef<Manager>, handle: &Handle) -> zbus::Result<Infallible> {
    let (snapshot, mut events) = handle.subscribe();
    let known = snapshot.state.sequence();
    drop(snapshot);
    loop {
        match events.recv().await {
            Ok(published) if published.event.sequence > known => {
                emit(manager, &published).await?;
            }
            // The sequences of the signals show the gap.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            // The handle that is held here keeps the sender alive.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn emit(manager: &InterfaceRef<Manager>, published: &Published) -> zbus::Result<()> {
    let Published {
        event,
        state,
        owner: _,
    } = published;
    let Event {
        sequence: Sequence(sequence),
        revision,
        at: _,
        actor: _,
        kind,
    } = event;
    let floating = kind.floating().map(|floating| floating.to_string());
    manager
        .changed(
            floating.as_deref().unwrap_or_default(),
            state.as_ref().map_or("", AddressState::as_str),
            revision.map_or(0, |revision| revision.0),
            *sequence,
        )
        .await
}

/// Tells when the daemon turns from running to degraded, or back.
async fn turns(
    manager: &InterfaceRef<Manager>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> zbus::Result<Infallible> {
    let mut last = state(&snapshots.borrow_and_update());
    loop {
        if snapshots.changed().await.is_err() {
            // The controller is gone, and the daemon is about to be.
            std::future::pending::<()>().await;
        }
        let now = state(&snapshots.borrow_and_update());
        if now != last {
            manager
                .get()
                .await
                .state_changed(manager.signal_emitter())
                .await?;
            last = now;
        }
    }
}
