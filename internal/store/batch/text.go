package batch

import (
	"sort"
	"strconv"
	"strings"

	"serin.dev/serin/internal/event"
)

// ArmsText writes arms as one canonical text, such as
// "flag/new-checkout=on;release/2.4.1=canary". Each of the characters
// % = ; is written as %25, %3D or %3B, so the arms read back exactly. They are
// sorted by what is written, so that equal sets of arms are equal texts.
func ArmsText(arms []event.Arm) string {
	switch len(arms) {
	case 0:
		return ""
	case 1:
		return escape.Replace(arms[0].Change) + "=" + escape.Replace(arms[0].Variant)
	}
	parts := make([]string, len(arms))
	for i, a := range arms {
		parts[i] = escape.Replace(a.Change) + "=" + escape.Replace(a.Variant)
	}
	sort.Strings(parts)
	return strings.Join(parts, ";")
}

var (
	escape   = strings.NewReplacer("%", "%25", "=", "%3D", ";", "%3B")
	unescape = unescaper{strings.NewReplacer("%3B", ";", "%3D", "=", "%25", "%")}
)

// unescaper looks first whether there is anything to replace, which there hardly
// ever is: a Replacer takes ten times as long to find that out.
type unescaper struct{ *strings.Replacer }

func (u unescaper) Replace(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	return u.Replacer.Replace(s)
}

// ParseArms reads the text of [ArmsText].
func ParseArms(text string) []event.Arm {
	if text == "" {
		return nil
	}
	var arms []event.Arm
	for part := range strings.SplitSeq(text, ";") {
		change, variant, _ := strings.Cut(part, "=")
		arms = append(arms, event.Arm{Change: unescape.Replace(change), Variant: unescape.Replace(variant)})
	}
	return arms
}

// AttrsText writes attributes in the same way, in the order of the wire; a
// number has a '#' before it, so that the text "1" and the number 1 differ.
// A '#' that begins a text is written twice.
func AttrsText(attrs []event.Attr) string {
	if len(attrs) == 0 {
		return ""
	}
	return string(appendAttrs(nil, attrs))
}

func appendAttrs(b []byte, attrs []event.Attr) []byte {
	for i := range attrs {
		if i > 0 {
			b = append(b, ';')
		}
		a := &attrs[i]
		b = append(appendEscaped(b, a.Key), '=')
		if a.Num {
			b = strconv.AppendFloat(append(b, '#'), a.Number, 'g', -1, 64)
			continue
		}
		if strings.HasPrefix(a.Text, "#") {
			b = append(b, '#')
		}
		b = appendEscaped(b, a.Text)
	}
	return b
}

func appendEscaped(b []byte, s string) []byte {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '=') < 0 && strings.IndexByte(s, ';') < 0 {
		return append(b, s...)
	}
	return append(b, escape.Replace(s)...)
}

// ParseAttrs reads the text of [AttrsText].
func ParseAttrs(text string) []event.Attr {
	if text == "" {
		return nil
	}
	var attrs []event.Attr
	for part := range strings.SplitSeq(text, ";") {
		key, value, _ := strings.Cut(part, "=")
		a := event.Attr{Key: unescape.Replace(key)}
		switch {
		case strings.HasPrefix(value, "##"):
			a.Text = unescape.Replace(value[1:])
		case strings.HasPrefix(value, "#"):
			a.Num = true
			a.Number, _ = strconv.ParseFloat(value[1:], 64)
		default:
			a.Text = unescape.Replace(value)
		}
		attrs = append(attrs, a)
	}
	return attrs
}
