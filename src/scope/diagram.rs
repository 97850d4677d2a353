//! The flows as a drawing: black on white, nothing from elsewhere, readable on paper.
//!
//! Four columns stand side by side: those who ask here, this program, the providers, the customer's
//! browser. Each arrow has a row of its own, as high as its label, so that no two labels meet.

use super::flows::{AUDITOR, BILLING, BROWSER, CARDLESS, Flow, KEY_FILE, OPERATOR, STORE};
use super::html::escape;

/// How wide a letter is at most, how high a line, and what is left free around it.
const LETTER: i32 = 7;
const LINE: i32 = 15;
const GAP: i32 = 12;

/// The left edges of the columns, and how wide their boxes are.
const LEFT: i32 = 10;
const MIDDLE: i32 = 262;
const RIGHT: i32 = 534;
const EDGE: i32 = 742;
const WIDE: i32 = 118;

/// How wide the drawing is.
const WIDTH: i32 = EDGE + WIDE + LEFT;

/// Where the first box begins: above it an arrow runs from one side to the other.
const TOP: i32 = 76;

/// How long the arrows at the foot are.
const FALL: i32 = 64;

/// How high the boxes at the foot are.
const FOOT: i32 = 40;

/// A line of text, from its left edge or around its middle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    x: i32,
    y: i32,
    centered: bool,
    bold: bool,
    words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rectangle {
    x: i32,
    y: i32,
    wide: i32,
    high: i32,
}

#[derive(Debug, Default)]
struct Drawing {
    boxes: Vec<Rectangle>,
    texts: Vec<Text>,
    /// Lines that end in a point.
    arrows: Vec<Vec<(i32, i32)>>,
    high: i32,
}

/// A box of a side column and the arrows at it.
struct Party {
    name: String,
    /// Label, and whether the arrow comes from the party.
    arrows: Vec<(String, bool)>,
}

pub(super) fn svg(flows: &[Flow]) -> String {
    render(&draw(flows))
}

fn draw(flows: &[Flow]) -> Drawing {
    let mut drawing = Drawing::default();
    let left: Vec<Party> = [BILLING, OPERATOR, AUDITOR]
        .into_iter()
        .map(|name| Party::of(name, flows))
        .collect();
    let providers = providers(flows);
    let right: Vec<Party> = providers
        .iter()
        .map(|name| Party::of(name, flows))
        .collect();

    let (from, to) = (LEFT + WIDE, MIDDLE);
    let left_end = side(&mut drawing, &left, LEFT, (from, to));
    // The browser comes back here above the providers.
    let back = returns(&mut drawing, flows);
    let right_end = side_from(&mut drawing, &right, back, RIGHT, (RIGHT, MIDDLE + WIDE));
    pages(&mut drawing, flows, &right, back);
    let end = left_end.max(right_end);
    drawing.column(MIDDLE, TOP, end, CARDLESS);
    drawing.column(EDGE, TOP, end, BROWSER);
    across(&mut drawing);
    foot(&mut drawing, flows, end);
    drawing.high = end + FALL + FOOT + GAP;
    drawing
}

/// Whoever is neither here nor one of ours.
fn providers(flows: &[Flow]) -> Vec<String> {
    let ours = [BILLING, OPERATOR, AUDITOR, CARDLESS, STORE, KEY_FILE];
    let mut names: Vec<String> = Vec::new();
    for flow in flows {
        let called = flow.from == CARDLESS || flow.from == BROWSER;
        if called && !ours.contains(&flow.to.as_str()) && !names.contains(&flow.to) {
            names.push(flow.to.clone());
        }
    }
    names
}

/// What goes from one to the other, in the order in which it comes first.
fn label(flows: &[Flow], from: &str, to: &str) -> Option<String> {
    let mut stages: Vec<&str> = Vec::new();
    for flow in flows
        .iter()
        .filter(|flow| flow.from == from && flow.to == to)
    {
        for stage in &flow.stages {
            if !stages.contains(stage) {
                stages.push(stage);
            }
        }
    }
    (!stages.is_empty()).then(|| stages.join(", "))
}

impl Party {
    fn of(name: &str, flows: &[Flow]) -> Self {
        let asks = label(flows, name, CARDLESS).map(|label| (label, true));
        let told = label(flows, CARDLESS, name).map(|label| (label, false));
        Self {
            name: name.to_owned(),
            arrows: asks.into_iter().chain(told).collect(),
        }
    }
}

fn side(drawing: &mut Drawing, parties: &[Party], x: i32, between: (i32, i32)) -> i32 {
    side_from(drawing, parties, TOP, x, between)
}

/// One box below the other, each as high as its arrows need; gives where the last one ends.
fn side_from(
    drawing: &mut Drawing,
    parties: &[Party],
    top: i32,
    x: i32,
    (here, there): (i32, i32),
) -> i32 {
    let mut y = top;
    for party in parties {
        let begin = y;
        for (label, asks) in &party.arrows {
            let ends = if *asks { (here, there) } else { (there, here) };
            y = drawing.row(y, ends, label);
        }
        let least = begin + 3 * LINE + GAP;
        y = y.max(least) + GAP / 2;
        drawing.column(x, begin, y, &party.name);
        y += GAP;
    }
    y
}

fn returns(drawing: &mut Drawing, flows: &[Flow]) -> i32 {
    match label(flows, BROWSER, CARDLESS) {
        Some(_) => {
            let words = "comes back, with a name that proves nothing";
            drawing.row(TOP, (EDGE, MIDDLE + WIDE), words) + GAP
        }
        None => TOP,
    }
}

/// The browser at each provider's own page.
fn pages(drawing: &mut Drawing, flows: &[Flow], parties: &[Party], top: i32) {
    let mut boxes: Vec<Rectangle> = drawing.boxes.clone();
    boxes.retain(|one| one.x == RIGHT && one.y >= top);
    for (party, place) in parties.iter().zip(boxes) {
        if let Some(label) = label(flows, BROWSER, &party.name) {
            drawing.row(place.y, (EDGE, RIGHT + WIDE), &label);
        }
    }
}

/// The billing service sends the browser to the page, past this program.
fn across(drawing: &mut Drawing) {
    let (from, to) = (LEFT + WIDE / 2, EDGE + WIDE / 2);
    let y = TOP - 2 * GAP;
    drawing
        .arrows
        .push(vec![(from, TOP), (from, y), (to, y), (to, TOP)]);
    drawing.texts.push(Text {
        x: (from + to) / 2,
        y: y - GAP / 2,
        centered: true,
        bold: false,
        words: "sends the customer to the address of the provider's page".to_owned(),
    });
}

/// Store and key file below this program.
fn foot(drawing: &mut Drawing, flows: &[Flow], end: i32) {
    let y = end + FALL;
    for (name, x, down, text_x) in [
        (STORE, MIDDLE - WIDE / 2 - GAP, true, MIDDLE - WIDE - GAP),
        (
            KEY_FILE,
            MIDDLE + WIDE / 2 + GAP,
            false,
            MIDDLE + WIDE + GAP,
        ),
    ] {
        drawing.column(x, y, y + FOOT, name);
        let (label, at) = if down {
            (label(flows, CARDLESS, name), MIDDLE + GAP)
        } else {
            (label(flows, name, CARDLESS), MIDDLE + WIDE - GAP)
        };
        let ends = if down { (end, y) } else { (y, end) };
        drawing.arrows.push(vec![(at, ends.0), (at, ends.1)]);
        let lines = wrap(&label.unwrap_or_default(), WIDE + GAP);
        for (number, words) in (0..).zip(lines) {
            drawing.texts.push(Text {
                x: text_x,
                y: end + GAP + LINE * (1 + number),
                centered: false,
                bold: false,
                words,
            });
        }
    }
}

impl Drawing {
    /// An arrow with its label above it; gives where the next row begins.
    fn row(&mut self, top: i32, (from, to): (i32, i32), label: &str) -> i32 {
        let (low, high) = (from.min(to), from.max(to));
        let lines = wrap(label, high - low - GAP);
        let mut y = top + GAP / 2;
        for words in lines {
            y += LINE;
            self.texts.push(Text {
                x: (low + high) / 2,
                y,
                centered: true,
                bold: false,
                words,
            });
        }
        y += GAP / 2;
        self.arrows.push(vec![(from, y), (to, y)]);
        y + GAP / 2
    }

    /// A box with its name in the middle.
    fn column(&mut self, x: i32, top: i32, end: i32, name: &str) {
        self.boxes.push(Rectangle {
            x,
            y: top,
            wide: WIDE,
            high: end - top,
        });
        let lines = wrap(name, WIDE - GAP);
        let count = i32::try_from(lines.len()).unwrap_or(1);
        let first = (top + end) / 2 - LINE * (count - 1) / 2 + LINE / 3;
        for (number, words) in (0..).zip(lines) {
            self.texts.push(Text {
                x: x + WIDE / 2,
                y: first + LINE * number,
                centered: true,
                bold: true,
                words,
            });
        }
    }
}

/// Lines of at most this width. A word that is wider is cut.
fn wrap(text: &str, wide: i32) -> Vec<String> {
    let most = usize::try_from(wide / LETTER).unwrap_or(1).max(2);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        if letters.len() > most {
            letters.truncate(most - 1);
            letters.push('…');
        }
        let word: String = letters.into_iter().collect();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(&word);
            }
            Some(_) | None => lines.push(word),
        }
    }
    lines
}

fn render(drawing: &Drawing) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {high}\" role=\"img\" \
         aria-labelledby=\"flows-title flows-desc\" font-family=\"Helvetica, Arial, sans-serif\" \
         font-size=\"12\">\n<title id=\"flows-title\">Data flows of this installation</title>\n\
         <desc id=\"flows-desc\">{description}</desc>\n\
         <defs><marker id=\"flows-point\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#000\"/></marker></defs>\n\
         <rect width=\"{WIDTH}\" height=\"{high}\" fill=\"#fff\"/>\n",
        high = drawing.high,
        description = escape(DESCRIPTION),
    );
    for one in &drawing.boxes {
        let Rectangle { x, y, wide, high } = one;
        svg.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" fill=\"#fff\" \
             stroke=\"#000\"/>\n"
        ));
    }
    for arrow in &drawing.arrows {
        let points: Vec<String> = arrow.iter().map(|(x, y)| format!("{x},{y}")).collect();
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#000\" marker-end=\"url(#flows-point)\"/>\n",
            points.join(" ")
        ));
    }
    for text in &drawing.texts {
        let anchor = if text.centered { "middle" } else { "start" };
        let weight = if text.bold { "bold" } else { "normal" };
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{}</text>\n",
            text.x,
            text.y,
            escape(&text.words)
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// The drawing in words, for whoever does not see it.
const DESCRIPTION: &str = "The billing service, the operator and the auditor ask cardless. Cardless calls each provider, and \
     providers notify it. The billing service sends the customer's browser to the provider's own \
     page, where alone a card is entered, and from there the browser comes back to cardless. \
     Cardless keeps rows in the store and has its keys from the key file. The table of flows-1 says \
     the same with every field.";

#[cfg(test)]
#[cfg(feature = "serve")]
mod tests {
    use super::super::flows::tests::flows_of;
    use super::*;

    fn around(text: &Text) -> Rectangle {
        let wide = LETTER * i32::try_from(text.words.chars().count()).unwrap();
        Rectangle {
            x: if text.centered {
                text.x - wide / 2
            } else {
                text.x
            },
            y: text.y - LINE + LINE / 4,
            wide,
            high: LINE,
        }
    }

    fn meet(one: &Rectangle, other: &Rectangle) -> bool {
        one.x < other.x + other.wide
            && other.x < one.x + one.wide
            && one.y < other.y + other.high
            && other.y < one.y + one.high
    }

    #[test]
    fn no_text_meets_another_or_leaves_the_page() {
        for providers in 0..=3 {
            let drawing = draw(&flows_of(providers));
            let page = Rectangle {
                x: 0,
                y: 0,
                wide: WIDTH,
                high: drawing.high,
            };
            for (at, text) in drawing.texts.iter().enumerate() {
                let place = around(text);
                let inside = place.x >= 0
                    && place.y >= 0
                    && place.x + place.wide <= page.wide
                    && place.y + place.high <= page.high;
                assert!(inside, "{text:?}");
                for other in drawing.texts.iter().skip(at + 1) {
                    assert!(!meet(&place, &around(other)), "{text:?} and {other:?}");
                }
                let mut boxes = drawing.boxes.iter();
                let within = boxes.find(|one| meet(&place, one));
                assert_eq!(within.is_some(), text.bold, "{text:?} and {within:?}");
            }
            for (at, one) in drawing.boxes.iter().enumerate() {
                for other in drawing.boxes.iter().skip(at + 1) {
                    assert!(!meet(one, other), "{one:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_drawing_shows_every_party_and_stage_as_text() {
        let mut flows = flows_of(3);
        flows.push(Flow::planted("<script>&", "x"));
        let svg = svg(&flows);
        for part in [
            "<title",
            "<desc",
            "viewBox=\"0 0 ",
            ">billing service<",
            ">operator<",
            ">auditor<",
            ">customer's<",
            ">cardless<",
            ">paypal<",
            ">postfinance<",
            ">aduno<",
            ">store<",
            ">key file<",
            "notification",
            "authorize",
            "&lt;script&gt;&amp;",
        ] {
            let part = part.replace('\'', "&#39;");
            assert!(svg.contains(&part), "{part} in {svg}");
        }
        for foreign in ["<script", "href", "@import", "<image", "<style"] {
            assert!(!svg.contains(foreign), "{foreign}");
        }
    }
}
