// Package datadog reads bodies of Datadog's browser RUM SDK as it sends them to
// a proxy: newline-delimited JSON, with the real target in the parameter
// ddforward. Views are upserts: the SDK sends the same view again and again with
// a rising version, and what it says twice must count once.
// docs/formats/datadog.md has the details.
package datadog

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

const maxLines = 1000

// forwarded returns a parameter of the target that the SDK wants to reach.
func forwarded(r *dialect.Request, name string) string {
	u, err := url.Parse(r.Query("ddforward"))
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}

// Key returns the public key: the client token of the SDK's configuration.
func Key(r *dialect.Request) string { return forwarded(r, "dd-api-key") }

// Deflated reports whether the body is compressed, which no header says.
func Deflated(r *dialect.Request) bool { return forwarded(r, "dd-evp-encoding") == "deflate" }

// Decode decodes one body.
func Decode(r *dialect.Request) (dialect.Result, error) {
	d := decoder{b: dialect.NewBuilder(r), r: r}
	if other := track(r); other != "" {
		d.b.Ignore(other)
		return d.b.Result(), nil
	}
	lines := bytes.SplitN(r.Body, []byte("\n"), maxLines+1)
	if len(lines) > maxLines {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonCount, Field: "body", Value: "more", Want: fmt.Sprintf("at most %d lines", maxLines)}
	}
	good := false
	for _, line := range lines {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		v, err := r.JSON(line)
		if err != nil || v.Type() != fastjson.TypeObject {
			if !good {
				return dialect.Result{}, &dialect.Error{Reason: event.ReasonJSON, Field: "body", Value: dialect.Clip(string(line[:min(len(line), 64)]), 64), Want: "an object in each line"}
			}
			d.b.Reject(event.ReasonJSON, "line", string(line[:min(len(line), 64)]), "an object in JSON")
			continue
		}
		good = true
		d.line(v)
	}
	if !good {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonJSON, Field: "body", Want: "an object in each line"}
	}
	for _, v := range d.views {
		d.view(v)
	}
	return d.b.Result(), nil
}

// track returns what a body of another of the SDK's tracks holds, all of which go
// through one proxy: segments of session replay, profiles, logs. They are not
// events, and replays not even JSON.
func track(r *dialect.Request) string {
	path, _, _ := strings.Cut(r.Query("ddforward"), "?")
	name, ok := strings.CutPrefix(path, "/api/v2/")
	if !ok || name == "rum" {
		return ""
	}
	return name
}

type decoder struct {
	b     *dialect.Builder
	r     *dialect.Request
	views []*fastjson.Value // the newest version of each
	whole dialect.Source    // the newest that named a release
}

func (d *decoder) source(v *fastjson.Value) dialect.Source {
	s := dialect.Source{App: dialect.Text(v, "service"), Release: dialect.Text(v, "version"), Session: dialect.Text(v, "session", "id")}
	tags := map[string]string{}
	for tag := range strings.SplitSeq(dialect.Text(v, "ddtags"), ",") {
		k, val, _ := strings.Cut(tag, ":")
		tags[k] = val
	}
	name := dialect.Text(v, "_dd", "sdk_name")
	if name == "" {
		name = "rum"
	}
	s.SDK = "datadog-" + name + "/" + tags["sdk_version"]
	s.Env = tags["env"]
	if s.Release == "" {
		s.Release = tags["version"]
	}
	if s.App == "" {
		s.App = dialect.Text(v, "application", "id")
	}
	for _, key := range []string{"id", "anonymous_id"} {
		if s.User == "" {
			s.User = dialect.Text(v, "usr", key)
		}
	}
	if dialect.Text(v, "session", "type") == "synthetics" {
		s.Tenancy = "synthetic"
	}
	dialect.Agent(&s.Ctx, d.r.Header["user-agent"])
	s.Ctx.Network = dialect.Text(v, "connectivity", "effective_type")
	s.Ctx.Page = dialect.Path(dialect.Text(v, "view", "url"))
	if s.Release != "" {
		d.whole = s
	}
	return s
}

// nanos reads a duration in ns as ms.
func nanos(v *fastjson.Value, path ...string) (float64, bool) {
	f, ok := dialect.Number(v, path...)
	return f / 1e6, ok
}

func (d *decoder) line(v *fastjson.Value) {
	s, at := d.source(v), dialect.Time(v, "date")
	kind := dialect.Text(v, "type")
	switch kind {
	case "view", "view_update":
		d.keep(v)
	case "error":
		e := event.One{Kind: event.Error, Name: dialect.Text(v, "error", "type"), Time: at, Message: dialect.Text(v, "error", "message"), Stack: dialect.Text(v, "error", "stack")}
		if v.GetBool("error", "is_crash") {
			e.Kind = event.Crash
		} else {
			e.Attrs = append(e.Attrs, dialect.Handled(dialect.Text(v, "error", "handling") != "unhandled"))
		}
		d.b.Add(s, e)
	case "resource":
		ms, ok := nanos(v, "resource", "duration")
		// A status of 0 is no answer. None at all is a request that the SDK did not
		// see begin, such as one from before it, and whose answer it may not read.
		target, status := dialect.Text(v, "resource", "url"), v.GetInt("resource", "status_code")
		unanswered := v.Exists("resource", "status_code") && status == 0
		if t := dialect.Text(v, "resource", "type"); t == "fetch" || t == "xhr" {
			d.b.Add(s, d.r.RequestEvent(dialect.Text(v, "resource", "method"), target, status, unanswered, ms, at))
			return
		}
		d.b.Add(s, event.One{Kind: event.Resource, Name: dialect.Path(target), Time: at, Value: ms, HasVal: ok, Unit: "ms",
			Attrs: []event.Attr{dialect.TextAttr("initiator", dialect.Text(v, "resource", "type"))}})
	case "long_task":
		ms, ok := nanos(v, "long_task", "duration")
		d.b.Add(s, event.One{Kind: event.LongTask, Name: "longtask", Time: at, Value: ms, HasVal: ok, Unit: "ms"})
	case "action":
		name := dialect.Text(v, "action", "target", "name")
		if name == "" {
			name = dialect.Text(v, "action", "type")
		}
		d.b.Add(s, event.One{Kind: event.Event, Name: name, Time: at, Attrs: append([]event.Attr{dialect.TextAttr("action", dialect.Text(v, "action", "type"))}, d.r.Attrs(v.Get("context"), event.MaxAttrs-1)...)})
	case "vital":
		ms, ok := nanos(v, "vital", "duration")
		if !ok { // a step of an operation
			d.b.Add(s, event.One{Kind: event.Event, Name: dialect.Text(v, "vital", "name"), Time: at, Attrs: []event.Attr{
				dialect.TextAttr("step", dialect.Text(v, "vital", "step_type")), dialect.TextAttr("failure", dialect.Text(v, "vital", "failure_reason"))}})
			return
		}
		d.b.Add(s, event.One{Kind: event.Metric, Name: dialect.Text(v, "vital", "name"), Time: at, Value: ms, HasVal: ok, Unit: "ms"})
	default:
		d.b.Ignore(kind)
	}
}

// viewVitals are the vitals of a view; all but CLS are in ns.
var viewVitals = []struct{ vital, key string }{
	{"LCP", "largest_contentful_paint"}, {"INP", "interaction_to_next_paint"}, {"FCP", "first_contentful_paint"}, {"TTFB", "first_byte"}, {"FID", "first_input_delay"},
}

// keep keeps a version of a view until the body ends, unless there is a newer one
// of the same view.
func (d *decoder) keep(v *fastjson.Value) {
	id := dialect.Text(v, "view", "id")
	for i, other := range d.views {
		if dialect.Text(other, "view", "id") == id && id != "" {
			if v.GetFloat64("_dd", "document_version") >= other.GetFloat64("_dd", "document_version") {
				d.views[i] = v
			}
			return
		}
	}
	d.views = append(d.views, v)
}

// view takes a view as its newest version has it. The SDK sends what it has every
// 30 s, and of what changed meanwhile the last version alone, so that the first one
// need never come: each version tells of the view, and of each vital by its
// present value, and what was told before counts once. An update has only what
// changed since the version before.
func (d *decoder) view(v *fastjson.Value) {
	s, at := d.source(v), dialect.Time(v, "date")
	if s.Release == "" && s.Session == d.whole.Session {
		page := s.Ctx.Page
		s = d.whole
		s.Ctx.Page = page
	}
	id := d.r.List(dialect.TextAttr("view", dialect.Text(v, "view", "id")))
	if dialect.Text(v, "type") == "view" {
		d.b.Once(s, event.One{Kind: event.View, Name: s.Ctx.Page, Time: at, Attrs: id})
	}
	for _, m := range viewVitals {
		if ms, ok := nanos(v, "view", m.key); ok {
			e, _ := dialect.Vital(m.vital, ms, at, id...)
			d.b.Once(s, e)
		}
	}
	if f, ok := dialect.Number(v, "view", "cumulative_layout_shift"); ok {
		e, _ := dialect.Vital("CLS", f, at, id...)
		d.b.Once(s, e)
	}
}
