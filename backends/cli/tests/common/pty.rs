//! The program on a terminal of the test's own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// What a terminal has shown, and how the program ended.
pub struct Seen {
    pub screen: String,
    /// What came on stderr where that is no terminal.
    pub errors: String,
    pub code: i32,
}

pub struct Terminal {
    keyboard: File,
    end: File,
}

impl Terminal {
    pub fn new(columns: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let no_tty = OpenptFlags::NOCTTY.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_tty);
        let end = options.open(name.to_str().unwrap()).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&end, size).unwrap();
        Self {
            keyboard: keyboard.into(),
            end,
        }
    }

    /// Runs `command` here; what goes to stderr does not come to the terminal.
    pub fn run(self, command: Command) -> Seen {
        self.see(command, true, "")
    }

    /// The same with stderr and a keyboard, on which `typed` is typed.
    pub fn all(self, command: Command, typed: &str) -> Seen {
        self.see(command, false, typed)
    }

    fn see(self, mut command: Command, apart: bool, typed: &str) -> Seen {
        let end = || Stdio::from(self.end.try_clone().unwrap());
        command.env("TERM", "xterm-256color").stdout(end());
        if apart {
            command.stdin(Stdio::null()).stderr(Stdio::piped());
        } else {
            command.stdin(end()).stderr(end());
        }
        let mut child: Child = command.spawn().unwrap();
        drop((command, self.end));
        let mut keyboard = self.keyboard;
        keyboard.write_all(typed.as_bytes()).unwrap();
        let mut screen = Vec::new();
        let mut part = [0; 4096];
        // When nobody has its other end open any more, reading it is an error.
        while let Ok(len @ 1..) = keyboard.read(&mut part) {
            screen.extend_from_slice(&part[..len]);
        }
        let mut errors = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut errors).unwrap();
        }
        let status = child.wait().unwrap();
        Seen {
            screen: String::from_utf8(screen).unwrap().replace("\r\n", "\n"),
            errors,
            code: status.code().unwrap(),
        }
    }
}
