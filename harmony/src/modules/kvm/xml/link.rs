//! A network card with its cable plugged in or out, as libvirt is told.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer};

use crate::modules::kvm::error::KvmError;

/// Whether a network card's cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::modules::kvm) enum LinkState {
    /// It is not.
    Down,
    /// It is.
    Up,
}

impl LinkState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// The element of each network card of a running domain, as it is but for the state of its link.
pub(in crate::modules::kvm) fn cards_with_link(
    domain: &str,
    state: LinkState,
) -> Result<Vec<String>, KvmError> {
    let internal = |what: String| KvmError::Internal {
        what: format!("the domain's network cards: {what}"),
    };
    let mut reader = Reader::from_str(domain);
    let mut card: Option<Writer<Vec<u8>>> = None;
    let mut cards = Vec::new();
    loop {
        let event = reader.read_event().map_err(|e| internal(e.to_string()))?;
        match &event {
            Event::Eof => return Ok(cards),
            Event::Start(tag) if tag.name().as_ref() == "interface" => {
                card = Some(Writer::new(Vec::new()));
            }
            _ => {}
        }
        let Some(writer) = &mut card else { continue };
        let ended = matches!(&event, Event::End(tag) if tag.name().as_ref() == "interface");
        if ended {
            let link = BytesStart::new("link").with_attributes([("state", state.as_str())]);
            writer
                .write_event(Event::Empty(link))
                .map_err(|e| internal(e.to_string()))?;
        }
        let is_link = matches!(&event, Event::Empty(tag) if tag.name().as_ref() == "link");
        if !is_link {
            writer
                .write_event(event)
                .map_err(|e| internal(e.to_string()))?;
        }
        if ended && let Some(writer) = card.take() {
            cards.push(String::from_utf8_lossy(&writer.into_inner()).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkState, cards_with_link};

    #[test]
    fn each_card_is_kept_as_it_is() {
        let domain = "<domain><name>interface</name><devices><interface type='user'><mac \
                      address='52:54:00:00:00:01'/><link state='down'/><model type='virtio'/></interface>\
                      <disk/><interface type='bridge'><source bridge='a&amp;b'/></interface></devices></domain>";
        assert_eq!(
            cards_with_link(domain, LinkState::Up).expect("well-formed"),
            [
                "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>\
                 <link state=\"up\"/></interface>",
                "<interface type='bridge'><source bridge='a&amp;b'/><link state=\"up\"/></interface>",
            ]
        );
        assert!(cards_with_link("<domain><interface></domain>", LinkState::Up).is_err());
    }
}
