//! `gradmax reproduce` hands over to the program of the paper's figures and tables.
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{GRADMAX, folder, text};

/// The program in a folder of its own.
fn alone(folder: &Path) -> Command {
    let program = folder.join("gradmax");
    fs::copy(GRADMAX, &program).unwrap();
    let mut command = Command::new(program);
    command.env("PATH", folder);
    command
}

#[test]
fn arguments_and_exit_code_are_those_of_the_other_program() {
    let folder = folder("handover");
    let paper = folder.join("gradmax-paper");
    fs::write(&paper, "#!/bin/sh\necho \"$@\"\nexit 7\n").unwrap();
    fs::set_permissions(&paper, fs::Permissions::from_mode(0o755)).unwrap();
    for arguments in [&["reproduce", "2a", "3", "--preset", "paper", "--seeds", "2"][..], &["reproduce", "--help"]] {
        let output = alone(&folder).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim(), arguments[1..].join(" "));
    }
}

#[test]
fn a_missing_program_is_named_with_what_to_do() {
    let output = alone(&folder("handover_missing")).args(["reproduce", "list"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("gradmax-paper") && said.contains("cargo install"), "{said}");
}
