//! The document of a saved domain as that of another one: the same machine under another identity.
//!
//! What a checkpoint's memory belongs to must stay to the last PCI address, so the saved document is kept and
//! only values that stand for the old identity are replaced, each as a whole. Pure.

use std::collections::BTreeMap;

use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use crate::modules::kvm::placement::Placement;

/// A document that cannot become another domain's.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// libvirt's document is not what is known here.
    #[error("the saved document is not well-formed")]
    Xml(#[source] quick_xml::Error),
    /// An attribute of it is not.
    #[error("the saved document has a malformed attribute")]
    Attribute(#[source] quick_xml::events::attributes::AttrError),
    /// Two placements that are not of one machine.
    #[error("the checkpoint has {saved} {what}, and the virtual machine {new}")]
    OtherMachine {
        /// Which devices.
        what: &'static str,
        /// How many the checkpoint has.
        saved: usize,
        /// How many there should be.
        new: usize,
    },
    /// Something of the old identity would have been left.
    #[error("'{value}' of the checkpoint is still in the document of '{name}'")]
    Leftover {
        /// The value.
        value: String,
        /// Whose document it is.
        name: String,
    },
}

/// A machine's name and what is particular to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    pub(super) placement: &'a Placement,
}

/// What a value of the saved document becomes.
#[derive(Debug, Default)]
pub(super) struct Substitutions {
    values: BTreeMap<String, String>,
    ssh_port: Option<(String, String)>,
    record: String,
    name: String,
}

impl Substitutions {
    /// Makes `new`, whose record is `record`, of `saved`.
    pub(super) fn new(
        saved: Identity<'_>,
        new: Identity<'_>,
        record: &str,
    ) -> Result<Self, ForkError> {
        let (old, now) = (saved.placement, new.placement);
        for (what, saved, new) in [
            ("network cards", old.macs.len(), now.macs.len()),
            ("data disks", old.disks.len(), now.disks.len()),
            (
                "seeds",
                usize::from(old.seed.is_some()),
                usize::from(now.seed.is_some()),
            ),
            (
                "console logs",
                usize::from(old.console_log.is_some()),
                usize::from(now.console_log.is_some()),
            ),
            (
                "ports for SSH",
                usize::from(old.ssh_port.is_some()),
                usize::from(now.ssh_port.is_some()),
            ),
        ] {
            if saved != new {
                return Err(ForkError::OtherMachine { what, saved, new });
            }
        }
        let mut values = BTreeMap::new();
        let mut replace = |old: String, new: String| values.insert(old, new);
        replace(saved.name.to_owned(), new.name.to_owned());
        replace(old.uuid.to_string(), now.uuid.to_string());
        replace(old.serial.to_string(), now.serial.to_string());
        for (old, new) in old.macs.iter().zip(&now.macs) {
            replace(old.to_string(), new.to_string());
        }
        let files = |placement: &Placement| {
            let all = [Some(&placement.overlay), Some(&placement.nvram)];
            let all = all.into_iter().chain([placement.seed.as_ref()]);
            let all = all.chain([placement.console_log.as_ref()]).flatten();
            let disks = placement.disks.iter().map(|disk| &disk.file);
            let all = all.chain(disks).map(|path| path.display().to_string());
            all.collect::<Vec<_>>()
        };
        for (old, new) in files(old).into_iter().zip(files(now)) {
            replace(old, new);
        }
        let port = |placement: &Placement| placement.ssh_port.map(|port| port.to_string());
        Ok(Self {
            values,
            ssh_port: port(old).zip(port(now)),
            record: record.to_owned(),
            name: new.name.to_owned(),
        })
    }

    /// The saved document with every value of the old identity replaced.
    pub(super) fn apply(&self, saved: &str) -> Result<String, ForkError> {
        let mut reader = Reader::from_str(saved);
        let mut writer = Writer::new(Vec::with_capacity(saved.len() + self.record.len()));
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        loop {
            let event = reader.read_event().map_err(ForkError::Xml)?;
            // Text comes in pieces around its entities.
            if !matches!(event, Event::Text(_) | Event::GeneralRef(_)) {
                self.write_text(&mut writer, &path, &mut text)?;
            }
            match event {
                Event::Start(tag) => {
                    let tag = self.tag(&tag)?;
                    path.push(tag.name().as_ref().to_owned());
                    write(&mut writer, Event::Start(tag))?;
                }
                Event::Empty(tag) => write(&mut writer, Event::Empty(self.tag(&tag)?))?,
                Event::End(tag) => {
                    path.pop();
                    write(&mut writer, Event::End(tag))?;
                }
                Event::Text(piece) => text.push_str(&piece.xml10_content()),
                Event::GeneralRef(reference) => {
                    match quick_xml::escape::resolve_predefined_entity(&reference) {
                        Some(resolved) => text.push_str(resolved),
                        None => text.extend(reference.resolve_char_ref().map_err(ForkError::Xml)?),
                    }
                }
                Event::Eof => break,
                other => write(&mut writer, other)?,
            }
        }
        let document = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        self.check(document)
    }

    fn write_text(
        &self,
        writer: &mut Writer<Vec<u8>>,
        path: &[String],
        text: &mut String,
    ) -> Result<(), ForkError> {
        if text.is_empty() {
            return Ok(());
        }
        let is_record = path.last().is_some_and(|name| name == "harmony:vm");
        let value = if is_record {
            &self.record
        } else {
            self.values.get(text.as_str()).unwrap_or(text)
        };
        write(
            writer,
            Event::Text(BytesText::from_escaped(partial_escape(value.as_str()))),
        )?;
        text.clear();
        Ok(())
    }

    fn tag(&self, tag: &BytesStart<'_>) -> Result<BytesStart<'static>, ForkError> {
        let name = tag.name().as_ref().to_owned();
        let mut new = BytesStart::new(name.clone());
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(ForkError::Attribute)?;
            let key = attribute.key.as_ref().to_owned();
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(ForkError::Xml)?;
            let port = self
                .ssh_port
                .as_ref()
                .filter(|(old, _)| name == "range" && key == "start" && *old == value.as_ref());
            let value = match port {
                Some((_, new)) => new.as_str(),
                None => self
                    .values
                    .get(value.as_ref())
                    .map_or(&*value, String::as_str),
            };
            new.push_attribute((key.as_str(), value));
        }
        Ok(new)
    }

    /// A guest under another's name, address or disk would do harm before anybody noticed.
    fn check(&self, document: String) -> Result<String, ForkError> {
        let kept = |old: &&String| !self.values.values().any(|new| new.contains(*old));
        let left = self.values.iter().filter(|(old, new)| old != new);
        let mut left = left.map(|(old, _)| old).filter(kept);
        match left.find(|old| document.contains(old.as_str())) {
            None => Ok(document),
            Some(value) => Err(ForkError::Leftover {
                value: value.clone(),
                name: self.name.clone(),
            }),
        }
    }
}

fn write(writer: &mut Writer<Vec<u8>>, event: Event<'_>) -> Result<(), ForkError> {
    writer
        .write_event(event)
        .map_err(|error| ForkError::Xml(error.into()))
}

#[cfg(test)]
mod tests;
