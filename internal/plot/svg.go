package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"
)

// colors tell lines apart for those who see red and green alike, too: the
// qualitative palette of Okabe and Ito (Color universal design, 2008), and
// dashes on the second round.
var colors = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

// The size of an SVG, in pixels.
const (
	svgWidth, svgHeight     = 960, 480
	left, right, top, below = 70, 220, 50, 50
)

// SVG draws the chart as a document that stands by itself: no script, no font
// and no file from elsewhere. Texts are escaped.
func (c *Chart) SVG() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" role="img">`+"\n", svgWidth, svgHeight, svgWidth, svgHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", escape(c.Title))
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"24\" font-size=\"15\">%s</text>\n", left, escape(c.Title))
	const across, down = svgWidth - left - right, svgHeight - top - below
	if len(c.Times) == 0 {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\">nothing was seen yet</text>\n</svg>\n", left, top+down/2)
		return b.Bytes()
	}
	lo, hi := c.span()
	y := func(v float64) float64 { return top + (hi-min(max(v, lo), hi))/(hi-lo)*down }
	step := nice((hi - lo) / 6)
	for v := math.Ceil(lo/step) * step; v <= hi; v += step {
		fmt.Fprintf(&b, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			left, left+across, y(v), y(v), left-6, y(v)+4, escape(fmt.Sprintf("%.4g", math.Round(v/step)*step)))
	}
	first, last := c.Times[0], c.Times[len(c.Times)-1]
	layout := "15:04:05"
	if last.Sub(first) > 20*time.Hour {
		layout = "Jan 2 15:04"
	}
	for i := range 5 {
		at := first.Add(time.Duration(float64(last.Sub(first)) * float64(i) / 4))
		x := left + across*i/4
		fmt.Fprintf(&b, "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke=\"#888\"/><text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			x, x, top+down, top+down+5, x, top+down+20, at.UTC().Format(layout))
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"#555\">UTC</text>\n", left+across/2, svgHeight-8)
	fmt.Fprintf(&b, "<text transform=\"rotate(-90 16 %d)\" x=\"16\" y=\"%d\" text-anchor=\"middle\" fill=\"#555\">%s</text>\n", top+down/2, top+down/2, escape(c.Unit))
	fmt.Fprintf(&b, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#888\"/>\n", left, top, top+down, left+across)
	for _, l := range c.Limits {
		if l.Y < lo || l.Y > hi {
			continue
		}
		fmt.Fprintf(&b, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#444\" stroke-dasharray=\"6 4\"/><text x=\"%d\" y=\"%.1f\" fill=\"#444\">%s</text>\n",
			left, left+across, y(l.Y), y(l.Y), left+6, y(l.Y)-4, escape(l.Name))
	}
	for k, l := range c.Lines {
		stroke := fmt.Sprintf(`stroke="%s" stroke-width="2"`, colors[k%len(colors)])
		if k >= len(colors) {
			stroke += ` stroke-dasharray="3 2"`
		}
		var path strings.Builder
		pen := "M"
		for i, v := range l.Y {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, left+c.place(i)*across, y(v))
			pen = "L"
		}
		fmt.Fprintf(&b, "<path d=\"%s\" fill=\"none\" stroke-linejoin=\"round\" %s/>\n", path.String(), stroke)
		at := top + 8 + 20*k
		fmt.Fprintf(&b, "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" %s/><text x=\"%d\" y=\"%d\">%s</text>\n",
			left+across+14, left+across+38, at, at, stroke, left+across+44, at+4, escape(clip(l.Name, 28)))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// nice rounds a step up to 1, 2 or 5 times a power of ten.
func nice(step float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= step*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func escape(s string) string {
	var b bytes.Buffer
	// A buffer takes every write.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
