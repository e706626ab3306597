// Package elastic reads Elastic APM RUM intake bodies, version 2 with long
// keys and version 3 with short ones. The protocol has no session and no key:
// docs/formats/elastic.md says what stands in for them. Times are the server's,
// as Elastic's own server has it, since browser clocks lie.
package elastic

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

const maxLines = 1000

// long maps the short keys of version 3 to those of version 2, each within the
// object that its path names.
var long = map[string]string{
	"m": "metadata", "x": "transaction", "e": "error", "me": "metricset", "y": "spans",
	"se": "service", "n": "name", "ve": "version", "a": "agent", "en": "environment", "c": "context", "p": "page", "u": "user", "ex": "exception",
	"mg": "message", "t": "type", "st": "stacktrace", "d": "duration", "k": "marks", "exp": "experience", "h": "http", "mt": "method", "sc": "status_code",
	"su": "subtype", "o": "outcome", "un": "username", "em": "email", "g": "tags", "fn": "function", "ap": "abs_path", "f": "filename", "li": "lineno", "co": "colno", "hd": "handled",
}

// get follows a path of long keys through an object that may have short ones.
func get(v *fastjson.Value, path ...string) *fastjson.Value {
	for _, key := range path {
		next := v.Get(key)
		for short, full := range long {
			if next == nil && full == key {
				next = v.Get(short)
			}
		}
		if v = next; v == nil {
			return nil
		}
	}
	return v
}

func text(v *fastjson.Value, path ...string) string { return dialect.Text(get(v, path...)) }

// Decode decodes one body of newline-delimited JSON.
func Decode(r *dialect.Request) (dialect.Result, error) {
	d := decoder{b: dialect.NewBuilder(r), r: r}
	lines := bytes.SplitN(bytes.TrimLeft(r.Body, " \t\r\n"), []byte("\n"), maxLines+1)
	if len(lines) > maxLines {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonCount, Field: "body", Value: "more", Want: fmt.Sprintf("at most %d lines", maxLines)}
	}
	for i, line := range lines {
		if i > 0 && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		v, err := r.JSON(line)
		if err != nil || v.Type() != fastjson.TypeObject {
			if i == 0 {
				return dialect.Result{}, &dialect.Error{Reason: event.ReasonJSON, Field: "body", Value: dialect.Clip(string(line), 64), Want: "an object with metadata in the first line"}
			}
			d.b.Reject(event.ReasonJSON, "line", string(line[:min(len(line), 64)]), "an object in JSON")
			continue
		}
		switch {
		case get(v, "metadata") != nil:
			d.metadata(get(v, "metadata"))
		case i == 0:
			return dialect.Result{}, &dialect.Error{Reason: event.ReasonMissing, Field: "metadata", Want: "an object with metadata in the first line"}
		case get(v, "error") != nil:
			d.error(get(v, "error"))
		case get(v, "transaction") != nil:
			d.transaction(get(v, "transaction"))
		case v.Get("span") != nil:
			d.span(d.spanOf(v.Get("span")), v.Get("span"))
		default:
			d.b.Ignore("metricset")
		}
	}
	return d.b.Result(), nil
}

type decoder struct {
	b    *dialect.Builder
	r    *dialect.Request
	base dialect.Source
	last dialect.Source // of the newest transaction
	id   string         // its id
}

// spanOf reads who a span speaks for: in version 2 it has a line of its own after
// its transaction's, which alone names the page and the user.
func (d *decoder) spanOf(v *fastjson.Value) dialect.Source {
	if d.id != "" && dialect.Text(v, "transaction_id") == d.id {
		return d.last
	}
	return d.base
}

func (d *decoder) metadata(m *fastjson.Value) {
	s := &d.base
	s.App, s.Release, s.Env = text(m, "service", "name"), text(m, "service", "version"), text(m, "service", "environment")
	s.SDK = text(m, "service", "agent", "name") + "/" + text(m, "service", "agent", "version")
	agent := d.r.Header["user-agent"]
	s.Session = dialect.Anonymous(d.r, agent, d.r.Now)
	dialect.Agent(&s.Ctx, agent)
}

// of reads who an item speaks for.
func (d *decoder) of(v *fastjson.Value) dialect.Source {
	s := d.base
	s.Ctx.Page = dialect.Path(text(v, "context", "page", "url"))
	for _, key := range []string{"id", "username", "email"} {
		if s.User == "" {
			s.User = text(v, "context", "user", key)
		}
	}
	return s
}

func (d *decoder) error(v *fastjson.Value) {
	x := get(v, "exception")
	name, message := text(x, "type"), text(x, "message")
	said, _, _ := strings.Cut(strings.TrimPrefix(message, "Uncaught "), ":")
	if name == "" { // version 3 has it in the message only
		name = "Error"
		if class(said) {
			name = said
		}
	}
	e := event.One{Kind: event.Error, Name: name, Message: message, Attrs: []event.Attr{
		dialect.Handled(!uncaught(name, said, message)), dialect.TextAttr("id", dialect.Text(v, "id"))}}
	var sb strings.Builder
	for _, f := range get(x, "stacktrace").GetArray() {
		if sb.Len() > event.MaxStack {
			break
		}
		fmt.Fprintf(&sb, "at %s (%s:%s:%s)\n", text(f, "function"), dialect.Path(text(f, "filename")), text(f, "lineno"), text(f, "colno"))
	}
	e.Stack = strings.TrimSuffix(sb.String(), "\n")
	d.b.Add(d.of(v), e)
}

// uncaught reports whether the agent's global handler wrote an error's message: it
// has the browser's words for the error, where captureError has the error's own
// message. Chrome begins with Uncaught, Firefox and Safari with the class.
func uncaught(name, said, message string) bool {
	for _, prefix := range []string{"Uncaught ", "uncaught exception", "Unhandled promise rejection", "Script error"} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return said == name && said != message && class(said)
}

// class reports whether a text may be the class of an error.
func class(s string) bool {
	return (strings.HasSuffix(s, "Error") || strings.HasSuffix(s, "Exception")) && !strings.ContainsAny(s, " \t\n")
}

// marks are where versions 2 and 3 have the vitals of a page load.
var marks = []struct{ vital, long, short string }{
	{"LCP", "largestContentfulPaint", "lp"}, {"FCP", "firstContentfulPaint", "fp"}, {"TTFB", "timeToFirstByte", "fb"},
}

func (d *decoder) transaction(v *fastjson.Value) {
	s := d.of(v)
	d.last, d.id = s, dialect.Text(v, "id")
	id := dialect.TextAttr("id", d.id)
	kind := text(v, "type")
	vital := func(name string, m *fastjson.Value) {
		if f, ok := dialect.Number(m); ok {
			e, _ := dialect.Vital(name, f, 0, id)
			d.b.Add(s, e)
		}
	}
	switch kind {
	case "page-load", "route-change":
		ms, ok := dialect.Number(get(v, "duration"))
		d.b.Add(s, event.One{Kind: event.View, Name: s.Ctx.Page, Value: ms, HasVal: ok, Unit: "ms", Attrs: []event.Attr{id}})
		agent := get(v, "marks", "agent")
		for _, m := range marks {
			at := agent.Get(m.long)
			if at == nil {
				at = agent.Get(m.short)
			}
			vital(m.vital, at)
		}
		for _, name := range []string{"cls", "fid"} {
			// -1 is Elastic's way to say that the browser cannot tell.
			if m := get(v, "experience", name); m != nil && m.GetFloat64() >= 0 {
				vital(name, m)
			}
		}
	case "page-exit":
		// The transaction lasts 1 ms longer, since it may not last 0.
		inp := get(v, "context", "tags", "inp_value")
		if inp == nil {
			inp = get(v, "experience", "inp")
		}
		vital("inp", inp)
		if ms, ok := dialect.Number(get(v, "duration")); ok && inp == nil {
			e, _ := dialect.Vital("inp", max(ms-1, 0), 0, id)
			d.b.Add(s, e)
		}
	default:
		d.b.Ignore("transaction")
	}
	for _, sp := range get(v, "spans").GetArray() {
		d.span(s, sp)
	}
}

func (d *decoder) span(s dialect.Source, v *fastjson.Value) {
	if page := dialect.Path(text(v, "context", "page", "url")); page != "" {
		s.Ctx.Page = page
	}
	ms, _ := dialect.Number(get(v, "duration"))
	id := dialect.TextAttr("id", dialect.Text(v, "id"))
	switch kind := text(v, "type"); kind {
	case "external":
		h := get(v, "context", "http")
		status, _ := dialect.Number(get(h, "status_code"))
		e := d.r.RequestEvent(text(h, "method"), text(h, "url"), int(status), status == 0 && text(v, "outcome") == "failure", ms, 0)
		e.Attrs = append(e.Attrs, id)
		d.b.Add(s, e)
	case "resource":
		d.b.Add(s, event.One{Kind: event.Resource, Name: dialect.Path(text(v, "name")), Value: ms, HasVal: true, Unit: "ms", Attrs: []event.Attr{dialect.TextAttr("initiator", text(v, "subtype")), id}})
	case "longtask":
		if !strings.HasPrefix(text(v, "name"), "Longtask") {
			d.b.Ignore("span")
		} else {
			d.b.Add(s, event.One{Kind: event.LongTask, Name: "longtask", Value: ms, HasVal: true, Unit: "ms", Attrs: []event.Attr{id}})
		}
	default:
		d.b.Ignore("span")
	}
}
