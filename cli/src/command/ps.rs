//! `calque ps`: the containers.

use jiff::Timestamp;
use serde::Serialize;
use store::{Container, ContainerState};

use super::{Format, format_flag, go_time};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{human, output};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "ps"), ("container", "ls"), ("container", "list"), ("container", "ps")],
    about: "List containers",
    synopsis: "[OPTIONS]",
    examples: &["ps", "ps -a", "ps -aq", "ps -a --format json"],
    is_trailing: false,
    flags,
    execute,
};

fn flags() -> Vec<clap::Arg> {
    vec![
        arguments::switch("all", "Show those too that have ended").short('a'),
        arguments::switch("quiet", "Show only the IDs").short('q'),
        arguments::switch("no-trunc", "Don't cut IDs and commands"),
        arguments::switch("latest", "Show the one that was made last, whatever its state").short('l'),
        arguments::option("last", "N", "Show the N that were made last, whatever their state [default: all]")
            .short('n')
            .value_parser(clap::value_parser!(i64)),
        format_flag(),
    ]
}

/// docker's object for `--format json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    command: String,
    created_at: String,
    #[serde(rename = "ID")]
    id: String,
    image: String,
    labels: String,
    names: String,
    ports: String,
    running_for: String,
    state: &'static str,
    status: String,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.arguments(Count::None)?;
    let format = Format::of(invocation)?;
    let store = invocation.app.store(1)?;
    let mut containers = store.containers().map_err(|error| Failure::error(1, &error))?;
    runner::sweep(&store, &mut containers);
    let last = invocation.matches.get_one::<i64>("last").copied().unwrap_or(-1);
    let last = if invocation.is_on("latest") { 1 } else { last };
    if let Ok(last) = usize::try_from(last) {
        containers.truncate(last);
    } else if !invocation.is_on("all") {
        containers.retain(|container| matches!(container.state, ContainerState::Running { .. }));
    }
    let is_cut = !invocation.is_on("no-trunc");
    let now = Timestamp::now();
    let rows: Vec<Row> = containers.iter().map(|container| row(container, is_cut, now)).collect();
    if invocation.is_on("quiet") {
        output::print(&rows.iter().map(|row| format!("{}\n", row.id)).collect::<String>())?;
    } else if format == Format::Json {
        output::print_json_lines(&rows)?;
    } else {
        output::print(&table(rows))?;
    }
    Ok(0)
}

fn row(container: &Container, is_cut: bool, now: Timestamp) -> Row {
    let record = &container.record;
    let command = record.argv.join(" ");
    let command = if is_cut { human::ellipsis(&command, 20) } else { command };
    let age = human::age(&record.created, now);
    Row {
        command: format!("\"{}\"", command.escape_debug().to_string().replace("\\'", "'")),
        created_at: go_time(&record.created),
        id: if is_cut { record.id.chars().take(12).collect() } else { record.id.clone() },
        image: record.reference.clone(),
        labels: String::new(),
        names: record.name.clone(),
        ports: String::new(),
        running_for: age.map_or_else(|| "N/A".to_owned(), human::ago),
        state: state(&container.state),
        status: status(&container.state, now),
    }
}

/// docker's word for a state.
pub(crate) fn state(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
    }
}

fn status(state: &ContainerState, now: Timestamp) -> String {
    match state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running { started, .. } => {
            format!("Up {}", human::duration(human::age(started, now).unwrap_or_default()))
        }
        ContainerState::Exited { code, finished } => {
            match finished.as_deref().and_then(|finished| human::age(finished, now)) {
                Some(age) => format!("Exited ({code}) {}", human::ago(age)),
                None => format!("Exited ({code})"),
            }
        }
    }
}

fn table(rows: Vec<Row>) -> String {
    let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    for row in rows {
        table.push(vec![row.id, row.image, row.command, row.running_for, row.status, row.ports, row.names]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use oci::{Digest, ImageId};
    use store::ContainerRecord;

    use super::*;

    fn container(state: ContainerState) -> Container {
        let record = ContainerRecord {
            id: "4c01db0b339c".repeat(6)[..64].to_owned(),
            name: "focused_hopper".to_owned(),
            image: ImageId::new(Digest::of(b"")),
            reference: "busybox:latest".to_owned(),
            layers: Vec::new(),
            argv: ["sh", "-c", "echo 'a' \"b\" && sleep 1"].map(str::to_owned).to_vec(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            auto_remove: false,
            settings: serde_json::Value::Null,
        };
        Container { record, state }
    }

    #[test]
    fn rows_are_dockers_byte_for_byte() {
        let now: Timestamp = "2026-01-01T04:00:07Z".parse().unwrap();
        let exited = ContainerState::Exited { code: 137, finished: Some("2026-01-01T04:00:00Z".into()) };
        let running = ContainerState::Running {
            pid: 1,
            start_time: 1,
            boot_id: String::new(),
            started: "2026-01-01T00:00:07Z".into(),
        };
        let rows = [exited, running, ContainerState::Created].map(|state| row(&container(state), true, now));
        assert_eq!(
            table(rows.into()),
            "CONTAINER ID   IMAGE            COMMAND                    CREATED       STATUS                       PORTS     NAMES\n\
             4c01db0b339c   busybox:latest   \"sh -c echo 'a' \\\"b\\\" …\"   4 hours ago   Exited (137) 7 seconds ago             focused_hopper\n\
             4c01db0b339c   busybox:latest   \"sh -c echo 'a' \\\"b\\\" …\"   4 hours ago   Up 4 hours                             focused_hopper\n\
             4c01db0b339c   busybox:latest   \"sh -c echo 'a' \\\"b\\\" …\"   4 hours ago   Created                                focused_hopper\n"
        );
    }

    #[test]
    fn nothing_is_cut_on_demand() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let row = row(&container(ContainerState::Created), false, now);
        assert_eq!((row.id.len(), row.command.ends_with("&& sleep 1\"")), (64, true));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["ID"], row.id);
        assert_eq!(json["CreatedAt"], "2026-01-01 00:00:00 +0000 UTC");
        assert_eq!(json["RunningFor"], "Less than a second ago");
    }
}
