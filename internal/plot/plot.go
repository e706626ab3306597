// Package plot draws a few lines over time: as plain characters for a terminal
// and as an SVG. It knows nothing of what they mean.
package plot

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Line is one line of a chart.
type Line struct {
	Name string
	Mark rune      // that draws it in a terminal
	Y    []float64 // as many as the chart has times; NaN is a gap, what is infinite ends at the edge
}

// Limit is a level that is drawn across.
type Limit struct {
	Name string
	Y    float64
}

// Chart is what to draw.
type Chart struct {
	Title  string
	Unit   string      // of the vertical axis
	Times  []time.Time // rising
	Lines  []Line
	Limits []Limit
	Lo, Hi float64 // what the vertical axis shows at least and at most: 0 and 0 are all that is there
}

// span returns the range of the vertical axis.
func (c *Chart) span() (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	see := func(y float64) {
		if !math.IsNaN(y) && !math.IsInf(y, 0) {
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	for _, l := range c.Lines {
		for _, y := range l.Y {
			see(y)
		}
	}
	for _, l := range c.Limits {
		see(l.Y)
	}
	if lo > hi {
		lo, hi = 0, 1
	}
	if c.Lo < c.Hi {
		lo, hi = max(lo, c.Lo), min(hi, c.Hi)
	}
	if hi-lo < 1e-9 {
		lo, hi = lo-1, hi+1
	}
	return lo, hi
}

// place returns where in [0,1] the i-th time is.
func (c *Chart) place(i int) float64 {
	first, last := c.Times[0], c.Times[len(c.Times)-1]
	if !last.After(first) {
		return 0
	}
	return float64(c.Times[i].Sub(first)) / float64(last.Sub(first))
}

// The least size of a chart in a terminal, in characters.
const (
	MinWidth  = 40
	MinHeight = 5
)

// Text draws the chart in lines of at most width characters, with height lines
// for the lines of the chart; both are raised to their least. A chart without
// times says so.
func (c *Chart) Text(width, height int) string {
	width, height = max(width, MinWidth), max(height, MinHeight)
	var b strings.Builder
	fmt.Fprintln(&b, clip(c.Title, width))
	if len(c.Times) == 0 {
		fmt.Fprintln(&b, "  nothing was seen yet")
		return b.String()
	}
	lo, hi := c.span()
	const labels = 9
	across := width - labels - 1
	rows := make([][]rune, height)
	for i := range rows {
		rows[i] = []rune(strings.Repeat(" ", across))
	}
	row := func(y float64) int {
		return int(math.Round((hi - min(max(y, lo), hi)) / (hi - lo) * float64(height-1)))
	}
	for _, l := range c.Limits {
		if l.Y < lo || l.Y > hi {
			continue
		}
		at := rows[row(l.Y)]
		for x := range at {
			at[x] = '-'
		}
	}
	for _, l := range c.Lines {
		lastX := -1
		lastY := 0.0
		for i, y := range l.Y {
			if math.IsNaN(y) {
				lastX = -1
				continue
			}
			y = min(max(y, lo), hi)
			x := int(math.Round(c.place(i) * float64(across-1)))
			rows[row(y)][x] = l.Mark
			for between := lastX + 1; lastX >= 0 && between < x; between++ {
				f := float64(between-lastX) / float64(x-lastX)
				rows[row(lastY+f*(y-lastY))][between] = l.Mark
			}
			lastX, lastY = x, y
		}
	}
	for _, l := range c.Limits { // over the lines, to be read
		if l.Y >= lo && l.Y <= hi {
			copy(rows[row(l.Y)][max(0, across-len([]rune(l.Name))-1):], []rune(l.Name))
		}
	}
	for i, r := range rows {
		label := ""
		if i == 0 || i == height-1 || i == (height-1)/2 {
			label = fmt.Sprintf("%.4g", hi-(hi-lo)*float64(i)/float64(height-1))
		}
		fmt.Fprintf(&b, "%*s|%s\n", labels, clip(label, labels), strings.TrimRight(string(r), " "))
	}
	first, last := c.Times[0], c.Times[len(c.Times)-1]
	layout := "15:04:05"
	if last.Sub(first) > 20*time.Hour {
		layout = "01-02 15:04"
	}
	from, to := first.UTC().Format(layout), last.UTC().Format(layout)+" UTC"
	fmt.Fprintf(&b, "%*s+%s\n", labels, "", strings.Repeat("-", across))
	fmt.Fprintf(&b, "%*s %s%*s\n", labels, "", from, max(across-len(from), len(to)+1), to)
	line := strings.Repeat(" ", labels) + " " + c.Unit
	for _, l := range c.Lines {
		entry := fmt.Sprintf("  %c %s", l.Mark, l.Name)
		if len([]rune(line))+len([]rune(entry)) > width {
			fmt.Fprintln(&b, strings.TrimRight(line, " "))
			line = strings.Repeat(" ", labels)
		}
		line += entry
	}
	fmt.Fprintln(&b, clip(line, width))
	return b.String()
}

// clip cuts a text to a width.
func clip(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "~"
	}
	return s
}
