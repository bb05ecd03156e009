//! What the command line asks.

use super::route::Route;
use crate::admin::api::{
    Act, Decision, EndStorm, Ids, Nothing, Observe, Routes, Selection, StartProbe, StartStorm, TryWay,
    WhichAudit, WhichTimeline,
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1", "What can be asked.", |_, _: Nothing| {
            Ok(Routes { routes: super::all().iter().map(Route::info).collect() })
        }),
        Route::get("/api/v1/status", "How the daemon is.", |daemon, _: Nothing| Ok(daemon.status())),
        Route::get("/api/v1/lists", "The lists it knows, the largest first.", |daemon, _: Nothing| {
            Ok(daemon.lists())
        }),
        Route::get("/api/v1/storms", "Storms, open and past, and suspicions.", |daemon, _: Nothing| {
            Ok(daemon.storms())
        }),
        Route::get("/api/v1/near", "What is near a storm, and none.", |daemon, _: Nothing| Ok(daemon.near())),
        Route::get(
            "/api/v1/timeline",
            "The last minutes, one by one: six hours, or as many as are asked for.",
            |daemon, which: WhichTimeline| daemon.timeline(which.minutes),
        ),
        Route::act(
            "/api/v1/storms/end",
            "Ends a storm, or a list's cooling.",
            |daemon, end: EndStorm, who| daemon.decide(&Decision::EndStorm(end), who),
        ),
        Route::act(
            "/api/v1/storms/start",
            "Closes a list for newcomers, or one of its conversations for everybody.",
            |daemon, start: StartStorm, who| daemon.decide(&Decision::Close(start), who),
        ),
        Route::act(
            "/api/v1/probe",
            "Makes a token for a probe of a list: good for one message, for two minutes.",
            |daemon, start: StartProbe, _| daemon.probe(&start),
        ),
        Route::get(
            "/api/v1/quarantine",
            "Held messages that fit all that is given, the oldest first.",
            |daemon, select: Selection| daemon.quarantine(&select),
        ),
        Route::act(
            "/api/v1/quarantine/release",
            "Lets held messages go to their recipients.",
            |daemon, of: Ids, who| daemon.act(Act::Release, &of.ids, who),
        ),
        Route::act(
            "/api/v1/quarantine/return",
            "Gives held messages back to their senders.",
            |daemon, of: Ids, who| daemon.act(Act::Return, &of.ids, who),
        ),
        Route::act(
            "/api/v1/observe",
            "Puts everything to observe at once, or each list back in its own mode.",
            |daemon, observe: Observe, who| daemon.observe(observe.on, who),
        ),
        Route::act(
            "/api/v1/alerts/test",
            "Sends a test alert by one of the ways, once, and says what became of it. One test at a time.",
            |daemon, of: TryWay, who| daemon.try_way(&of.way, who),
        ),
        Route::get(
            "/api/v1/audit",
            "What operators did, the latest first, as it stands in `audit.log`.",
            |daemon, which: WhichAudit| daemon.audit(which.limit),
        ),
    ]
}
