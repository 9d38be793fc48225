//! Draws results at growing sizes as a picture: two charts side by side, without a library.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 400.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 340.0;
const COLOURS: [(&str, &str); 2] = [("PostgreSQL", "#1f5fa8"), ("SQLite", "#c2571a")];

/// One chart: the position and range of its axes.
struct Chart {
    left: f64,
    right: f64,
    sizes: (f64, f64),
    values: (f64, f64),
    logarithmic: bool,
}

impl Chart {
    fn x(&self, size: f64) -> f64 {
        let share = (size / self.sizes.0).ln() / (self.sizes.1 / self.sizes.0).ln();
        self.left + share * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share = if self.logarithmic {
            (value / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        BOTTOM - share * (BOTTOM - TOP)
    }

    fn axes(&self, out: &mut String, title: &str, marks: &[f64], label: impl Fn(f64) -> String) {
        let _ = write!(
            out,
            r##"<text x="{}" y="{}" font-weight="bold">{title}</text>"##,
            self.left,
            TOP - 18.0
        );
        for mark in marks {
            let y = self.y(*mark);
            let _ = write!(
                out,
                r##"<line x1="{}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#e2e2e2"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
                self.left,
                self.right,
                self.left - 8.0,
                y + 4.0,
                label(*mark)
            );
        }
        let mut size = self.sizes.0;
        while size <= self.sizes.1 * 1.01 {
            let x = self.x(size);
            let _ = write!(
                out,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{BOTTOM}" stroke="#eeeeee"/><text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"##,
                BOTTOM + 18.0,
                thousands(size)
            );
            size *= 10.0;
        }
        let _ = write!(
            out,
            r##"<path d="M{0} {TOP}V{BOTTOM}H{1}" fill="none" stroke="#555555"/><text x="{2}" y="{3}" text-anchor="middle">memories</text>"##,
            self.left,
            self.right,
            (self.left + self.right) / 2.0,
            BOTTOM + 38.0
        );
    }

    fn line(&self, out: &mut String, colour: &str, dashed: bool, points: &[(f64, f64)]) {
        let place =
            |(size, value): &(f64, f64)| format!("{:.1},{:.1}", self.x(*size), self.y(*value));
        let places: Vec<String> = points.iter().map(place).collect();
        let dash = if dashed {
            r#" stroke-dasharray="6 4""#
        } else {
            ""
        };
        let _ = write!(
            out,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"##,
            places.join(" ")
        );
        for (size, value) in points {
            let (x, y) = (self.x(*size), self.y(*value));
            let fill = if dashed { "#ffffff" } else { colour };
            let _ = write!(
                out,
                r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>"##
            );
        }
    }
}

fn thousands(size: f64) -> String {
    let digits = format!("{size:.0}");
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|part| std::str::from_utf8(part).ok())
        .collect();
    groups.join(",")
}

fn series(points: &[Value], backend: &str, field: &str) -> Vec<(f64, f64)> {
    let of_backend = points.iter().filter(|point| point["backend"] == backend);
    let mut found: Vec<(f64, f64)> = of_backend
        .filter_map(|point| Some((point["memories"].as_f64()?, point[field].as_f64()?)))
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

/// Draws the picture of the results of a run.
pub(crate) fn draw(points: &[Value]) -> String {
    let sizes = (1_000.0, 1_000_000.0);
    let times = Chart {
        left: 70.0,
        right: 450.0,
        sizes,
        values: (1.0, 200.0),
        logarithmic: true,
    };
    let quality = Chart {
        left: 560.0,
        right: 915.0,
        sizes,
        values: (0.5, 1.0),
        logarithmic: false,
    };
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#222222"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
    );
    times.axes(
        &mut out,
        "A recall, one client",
        &[1.0, 3.0, 10.0, 30.0, 100.0],
        |mark| format!("{mark:.0} ms"),
    );
    let marks = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
    quality.axes(
        &mut out,
        "Of the ten nearest by exact comparison, found",
        &marks,
        |mark| format!("{:.0} %", mark * 100.0),
    );
    for (backend, colour) in COLOURS {
        times.line(
            &mut out,
            colour,
            false,
            &series(points, backend, "recall_p50_ms"),
        );
        times.line(
            &mut out,
            colour,
            true,
            &series(points, backend, "recall_p95_ms"),
        );
        quality.line(
            &mut out,
            colour,
            false,
            &series(points, backend, "nearest_10"),
        );
    }
    for (place, (backend, colour)) in COLOURS.into_iter().enumerate() {
        let y = HEIGHT - 10.0;
        let x = 250.0 + place as f64 * 270.0;
        let _ = write!(
            out,
            r##"<line x1="{x}" x2="{0}" y1="{1}" y2="{1}" stroke="{colour}" stroke-width="2"/><text x="{2}" y="{y}">{backend}, p50</text><line x1="{3}" x2="{4}" y1="{1}" y2="{1}" stroke="{colour}" stroke-width="2" stroke-dasharray="6 4"/><text x="{5}" y="{y}">p95</text>"##,
            x + 28.0,
            y - 4.0,
            x + 34.0,
            x + 140.0,
            x + 168.0,
            x + 174.0
        );
    }
    out + "</svg>\n"
}
