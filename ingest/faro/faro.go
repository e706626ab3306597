// Package faro reads bodies of Grafana Faro's web, React Native and Flutter
// SDKs. docs/formats/faro.md says what becomes of each item, and what the
// protocol cannot say.
package faro

import (
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/otlp"
	"serin.dev/serin/internal/event"
)

// Decode decodes one body of a collector request.
func Decode(r *dialect.Request) (dialect.Result, error) {
	v, err := r.JSON(r.Body)
	if err != nil {
		return dialect.Result{}, dialect.NotJSON(r.Body)
	}
	if v.Type() != fastjson.TypeObject {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonType, Field: "body", Value: v.Type().String(), Want: "an object with meta"}
	}
	meta := v.Get("meta")
	if meta == nil || meta.Type() != fastjson.TypeObject {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonMissing, Field: "meta", Want: "an object"}
	}
	d := decoder{b: dialect.NewBuilder(r), r: r}
	d.source(meta)
	// Faro does not say when it sent. It sends what it has within 250 ms and
	// keeps nothing on disk, so its newest item is about that old.
	for _, list := range []string{"events", "exceptions", "measurements", "logs"} {
		for _, item := range v.GetArray(list) {
			d.src.Sent = max(d.src.Sent, dialect.Time(item, "timestamp"))
		}
	}
	for _, e := range d.items(v, "events") {
		d.event(e)
	}
	for _, e := range d.items(v, "exceptions") {
		d.exception(e)
	}
	for _, m := range d.items(v, "measurements") {
		d.measurement(m)
	}
	for _, l := range d.items(v, "logs") {
		d.b.Add(d.src, event.One{Kind: event.Event, Name: event.NameLog, Time: dialect.Time(l, "timestamp"),
			Message: d.r.Text(l, "message"), Attrs: d.r.List(dialect.TextAttr("level", d.r.Text(l, "level")))})
	}
	if spans := v.Get("traces", "resourceSpans"); spans != nil {
		otlp.Spans(d.b, r, spans, d.src, d.told)
	}
	return d.b.Result(), nil
}

type decoder struct {
	b    *dialect.Builder
	r    *dialect.Request
	src  dialect.Source
	told map[string]bool // the spans of which an event says the same
}

// items returns the items of a list, and rejects what is none.
func (d *decoder) items(v *fastjson.Value, list string) []*fastjson.Value {
	l := v.Get(list)
	if l == nil || l.Type() == fastjson.TypeNull {
		return nil
	}
	if l.Type() != fastjson.TypeArray {
		d.b.Reject(event.ReasonType, list, l.Type().String(), "an array")
		return nil
	}
	items, other := l.GetArray(), func(item *fastjson.Value) bool { return item.Type() != fastjson.TypeObject }
	if !slices.ContainsFunc(items, other) {
		return items
	}
	return slices.DeleteFunc(slices.Clone(items), func(item *fastjson.Value) bool {
		if other(item) {
			d.b.Reject(event.ReasonType, list, item.Type().String(), "an object")
			return true
		}
		return false
	})
}

func (d *decoder) source(meta *fastjson.Value) {
	s := &d.src
	sdk := d.r.Text(meta, "sdk", "name")
	if sdk == "" {
		sdk = "faro-web" // version 1 does not name itself
	}
	s.SDK = d.r.Join(sdk, "/", d.r.Text(meta, "sdk", "version"))
	s.App, s.Release, s.Env = d.r.Text(meta, "app", "name"), d.r.Text(meta, "app", "version"), d.r.Text(meta, "app", "environment")
	if s.Release == "" {
		s.Release = d.r.Text(meta, "app", "release")
	}
	s.Session = d.r.Own(meta, "session", "id")
	if s.Session == "" {
		s.Session = d.r.Header["x-faro-session-id"]
	}
	for _, key := range []string{"id", "username", "email", "hash"} {
		if s.User == "" {
			s.User = d.r.Own(meta, "user", key)
		}
	}
	s.Tenancy = d.r.Text(meta, "session", "attributes", "serin.tenancy")
	if s.Tenancy == "" && meta.GetBool("k6", "isK6Browser") {
		s.Tenancy = event.Synthetic.String()
	}
	dialect.Agent(&s.Ctx, d.r.Text(meta, "browser", "userAgent"))
	if s.Ctx.Browser == "" && meta.Get("browser") != nil {
		major, _, _ := strings.Cut(d.r.Text(meta, "browser", "version"), ".")
		s.Ctx.Platform = "web"
		s.Ctx.Browser = strings.TrimSpace(d.r.Text(meta, "browser", "name") + " " + major)
		s.Ctx.OS = d.r.Text(meta, "browser", "os")
	}
	if s.Ctx.OS == "" {
		s.Ctx.OS = strings.TrimSpace(d.r.Text(meta, "os", "name") + " " + d.r.Text(meta, "os", "version"))
	}
	if s.Ctx.Platform == "" {
		s.Ctx.Platform = strings.Replace(strings.ToLower(d.r.Text(meta, "os", "name")), "ipados", "ios", 1)
		if s.Ctx.Platform == "android" || s.Ctx.Platform == "ios" {
			s.Ctx.Device = "mobile"
		}
	}
	s.Ctx.Page = dialect.Path(d.r.Text(meta, "page", "url"))
	if view := d.r.Text(meta, "view", "name"); view != "" && view != "default" {
		s.Ctx.Page = view
	}
}

func (d *decoder) event(e *fastjson.Value) {
	at, name, attrs := dialect.Time(e, "timestamp"), d.r.Text(e, "name"), e.Get("attributes")
	duration, timed := dialect.Number(attrs, "duration")
	switch name {
	case "session_start":
		d.b.Add(d.src, event.One{Kind: event.Session, Name: "start", Time: at})
	case "session_extend", "session_resume":
		d.b.Add(d.src, event.One{Kind: event.Session, Name: strings.TrimPrefix(name, "session_"), Time: at})
	case "view_changed":
		d.b.Add(d.src, event.One{Kind: event.View, Name: d.r.Text(attrs, "toView"), Time: at})
	case "faro.performance.navigation":
		d.b.Add(d.src, event.One{Kind: event.View, Name: dialect.Path(d.r.Text(attrs, "name")), Time: at, Value: duration, HasVal: timed, Unit: "ms"})
	case "faro.performance.resource":
		status, _ := strconv.Atoi(d.r.Text(attrs, "responseStatus"))
		switch initiator := d.r.Text(attrs, "initiatorType"); initiator {
		case "fetch", "xmlhttprequest":
			// A status of 0 is a cross-origin answer that may not be read.
			d.b.Add(d.src, d.r.RequestEvent("", d.r.Text(attrs, "name"), status, false, duration, at))
		default:
			d.b.Add(d.src, event.One{Kind: event.Resource, Name: dialect.Path(d.r.Text(attrs, "name")), Time: at, Value: duration, HasVal: timed, Unit: "ms",
				Attrs: d.r.List(dialect.TextAttr("initiator", initiator))})
		}
	case "app_startup":
		d.start(attrs, at)
	default:
		if strings.HasPrefix(name, "faro.tracing.") && d.traced(e, attrs, at) {
			return
		}
		d.b.Add(d.src, event.One{Kind: event.Event, Name: name, Time: at, Attrs: d.r.Attrs(attrs, event.MaxAttrs)})
	}
}

// traced takes an event that tells of a request: where there are traces it says
// what a span of the same body says, and the mobile SDKs send it alone.
func (d *decoder) traced(e, attrs *fastjson.Value, at int64) bool {
	first := func(keys ...string) string {
		for _, key := range keys {
			if text := d.r.Text(attrs, key); text != "" {
				return text
			}
		}
		return ""
	}
	method := first("http.method", "http.request.method")
	if method == "" {
		return false
	}
	code := first("http.status_code", "http.response.status_code")
	status, _ := strconv.Atoi(code)
	failed := status == 0 && (code != "" || first("http.error", "error.type") != "")
	ns, _ := dialect.Number(attrs, "duration_ns")
	d.b.Add(d.src, d.r.RequestEvent(method, first("http.url", "url.full"), status, failed, max(ns, 0)/1e6, at))
	if id := dialect.Text(e, "trace", "span_id"); id != "" {
		if d.told == nil {
			d.told = map[string]bool{}
		}
		d.told[id] = true
	}
	return true
}

// start takes an app start; the React Native and the Flutter SDK name its
// duration differently.
func (d *decoder) start(values *fastjson.Value, at int64) {
	ms, ok := dialect.Number(values, "appStartDuration")
	if !ok {
		ms, ok = dialect.Number(values, "total_duration_ms")
	}
	name := "warm"
	if cold, _ := dialect.Number(values, "coldStart"); cold != 0 {
		name = "cold"
	}
	d.b.Add(d.src, event.One{Kind: event.Start, Name: name, Time: at, Value: ms, HasVal: ok, Unit: "ms"})
}

func (d *decoder) exception(e *fastjson.Value) {
	at, name, message := dialect.Time(e, "timestamp"), d.r.Text(e, "type"), d.r.Text(e, "value")
	one := event.One{Kind: event.Error, Name: name, Time: at, Message: message, Stack: d.r.Stack(e.GetArray("stacktrace", "frames"), false)}
	src := d.src
	switch {
	case strings.EqualFold(name, "crash") && strings.HasPrefix(message, "ANR:"),
		strings.EqualFold(name, "ANR"), // React Native
		name == "flutter_error" && strings.HasPrefix(message, "ANR (") && e.GetBool("fatal"): // Flutter
		one.Kind = event.ANR
	case strings.EqualFold(name, "crash"):
		one.Kind = event.Crash
	default:
		// Faro does not say whether an error was caught, but for what it
		// copied from the console.
		handled := strings.HasPrefix(message, "console.error:") || d.r.Text(e, "context", "handled") == "true"
		one.Attrs = d.r.List(dialect.Handled(handled))
	}
	if one.Kind != event.Error {
		// A crash is told at the next launch, about the session before.
		if id := d.r.Own(e, "context", "crashedSessionId"); id != "" {
			src.Session = id
		}
	}
	d.b.Add(src, one)
}

func (d *decoder) measurement(m *fastjson.Value) {
	at, kind, values := dialect.Time(m, "timestamp"), d.r.Text(m, "type"), m.Get("values")
	if kind == "app_startup" {
		d.start(values, at)
		return
	}
	obj := values.GetObject()
	if obj == nil {
		d.b.Reject(event.ReasonMissing, "measurements.values", kind, "an object of numbers")
		return
	}
	obj.Visit(func(key []byte, v *fastjson.Value) {
		name := d.r.Words().Known(key)
		f, ok := dialect.Number(v)
		if kind == "web-vitals" {
			one, isVital := dialect.Vital(name, f, at, d.r.List(dialect.TextAttr("rating", d.r.Text(m, "context", "rating")))...)
			switch {
			case isVital && ok:
				d.b.Add(d.src, one)
			case isVital:
				d.b.Reject(event.ReasonType, "measurements.values."+name, v.String(), "a number")
			}
			return // the parts of a vital are not events of their own
		}
		if !ok {
			d.b.Reject(event.ReasonType, "measurements.values."+name, v.String(), "a number")
			return
		}
		d.b.Add(d.src, event.One{Kind: event.Metric, Name: d.r.Join(kind, ".", name), Time: at, Value: f, HasVal: true})
	})
}
