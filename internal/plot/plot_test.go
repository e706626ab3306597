package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func chart(n int) *Chart {
	c := &Chart{Title: `evidence on <script>"x"</script>`, Unit: "ln e", Limits: []Limit{{"rollback", 4.6}},
		Lines: []Line{{Name: "harm", Mark: 'h'}, {Name: "a guardrail of a long name & more of it, so that it is cut", Mark: 's'}}}
	for i := range n {
		c.Times = append(c.Times, time.Unix(int64(1764000000+60*i), 0))
		c.Lines[0].Y = append(c.Lines[0].Y, float64(i)/10)
		c.Lines[1].Y = append(c.Lines[1].Y, -float64(i)/20)
	}
	return c
}

func TestText(t *testing.T) {
	c := chart(60)
	c.Lines[1].Y[30] = math.NaN()
	c.Lines[1].Y[40] = math.Inf(-1)
	for _, width := range []int{0, 40, 72, 200} {
		text := c.Text(width, 12)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(width, MinWidth) {
				t.Errorf("width %d: %d characters: %q", width, n, line)
			}
		}
		for _, want := range []string{"rollback", "h harm", "16:00:00", "UTC"} {
			if !strings.Contains(text, want) {
				t.Errorf("width %d: no %q in\n%s", width, want, text)
			}
		}
		// What rises ends at the top, what falls at the bottom.
		lines := strings.Split(text, "\n")
		if !strings.HasSuffix(lines[1], "h") || !strings.Contains(lines[12], "s") {
			t.Errorf("width %d:\n%s", width, text)
		}
	}
}

// TestDegenerate draws what has hardly anything in it.
func TestDegenerate(t *testing.T) {
	for name, c := range map[string]*Chart{"empty": {Title: "x"}, "one point": chart(1), "no lines": {Title: "x", Times: []time.Time{time.Unix(0, 0)}},
		"no numbers": {Times: []time.Time{time.Unix(0, 0)}, Lines: []Line{{Y: []float64{math.NaN()}}}}, "constant": {Times: chart(3).Times, Lines: []Line{{Mark: 'x', Y: []float64{2, 2, 2}}}}} {
		if c.Text(60, 8) == "" {
			t.Errorf("%s: no text", name)
		}
		wellFormed(t, name, c.SVG())
	}
}

func TestSVG(t *testing.T) {
	svg := chart(60).SVG()
	wellFormed(t, "svg", svg)
	if text := string(svg); strings.Contains(text, "<script") || !strings.Contains(text, "&lt;script&gt;") || strings.Contains(text, "NaN") {
		t.Error(text)
	}
}

func wellFormed(t *testing.T, name string, doc []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(doc)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, doc)
		}
	}
}

func TestNice(t *testing.T) {
	for in, want := range map[float64]float64{0.13: 0.2, 1: 1, 1.2: 2, 3: 5, 7: 10, 40: 50} {
		if got := nice(in); math.Abs(got-want) > 1e-9 {
			t.Errorf("nice(%v) is %v, want %v", in, got, want)
		}
	}
}
