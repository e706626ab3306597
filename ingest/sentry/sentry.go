// Package sentry reads Sentry envelopes of browser and mobile SDKs, versions 7
// to 11. docs/formats/sentry.md says what becomes of each item, and what the
// protocol cannot say: only session items name the session, so that all other
// items belong to the session of their trace.
package sentry

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// The limits of an envelope.
const (
	maxItems      = 100 // items
	maxAggregates = 200 // sessions that the aggregates of one envelope stand for
	maxSpans      = 1000
)

// Key returns the public key of a request: of the query, of the header
// X-Sentry-Auth, or of the envelope's DSN, as a tunnel sends it.
func Key(r *dialect.Request) string {
	if k := r.Query("sentry_key"); k != "" {
		return k
	}
	for part := range strings.SplitSeq(r.Header["x-sentry-auth"], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(part), "Sentry ")), "=")
		if name == "sentry_key" {
			return value
		}
	}
	head, _, _ := bytes.Cut(r.Body, []byte("\n"))
	if v, err := r.JSON(head); err == nil {
		if u, err := url.Parse(dialect.Text(v, "dsn")); err == nil && u.User != nil {
			return u.User.Username()
		}
	}
	return ""
}

// Decode decodes one envelope.
func Decode(r *dialect.Request) (dialect.Result, error) {
	head, rest, _ := bytes.Cut(r.Body, []byte("\n"))
	v, err := r.JSON(head)
	if err != nil {
		return dialect.Result{}, dialect.NotJSON(head)
	}
	if v.Type() != fastjson.TypeObject {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonType, Field: "envelope header", Value: v.Type().String(), Want: "an object"}
	}
	d := decoder{b: dialect.NewBuilder(r), r: r}
	d.base.Sent = dialect.Time(v, "sent_at")
	d.base.SDK = d.sdk(v.Get("sdk"))
	if d.base.SDK == "" {
		d.base.SDK = r.Query("sentry_client")
	}
	d.base.Session = d.r.Own(v, "trace", "trace_id")
	d.release(&d.base, d.r.Text(v, "trace", "release"))
	d.base.Env = d.r.Text(v, "trace", "environment")
	dialect.Agent(&d.base.Ctx, r.Header["user-agent"])
	for n := 0; len(bytes.TrimSpace(rest)) > 0; n++ {
		if n == maxItems {
			return dialect.Result{}, &dialect.Error{Reason: event.ReasonCount, Field: "items", Value: "more", Want: fmt.Sprintf("at most %d items", maxItems)}
		}
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		h, err := r.JSON(line)
		if err != nil || h.Type() != fastjson.TypeObject {
			return dialect.Result{}, &dialect.Error{Reason: event.ReasonJSON, Field: fmt.Sprintf("items[%d] header", n), Value: dialect.Clip(string(line), 64), Want: "an object in JSON"}
		}
		var payload []byte
		if l := h.Get("length"); l != nil {
			size, err := l.Int()
			if err != nil || size < 0 || size > len(rest) {
				return dialect.Result{}, &dialect.Error{Reason: event.ReasonLength, Field: fmt.Sprintf("items[%d].length", n), Value: dialect.Clip(l.String(), 64), Want: fmt.Sprintf("at most the %d bytes that are left", len(rest))}
			}
			payload, rest = rest[:size], bytes.TrimPrefix(rest[size:], []byte("\n"))
		} else {
			payload, rest, _ = bytes.Cut(rest, []byte("\n"))
		}
		d.item(d.r.Text(h, "type"), payload)
	}
	return d.b.Result(), nil
}

// few returns the spans of a list that are read; SDKs send no more, and more are
// counted and left out.
func (d *decoder) few(spans []*fastjson.Value) []*fastjson.Value {
	for range spans[min(len(spans), maxSpans):] {
		d.b.Ignore("span")
	}
	return spans[:min(len(spans), maxSpans)]
}

func (d *decoder) sdk(v *fastjson.Value) string {
	name := d.r.Text(v, "name")
	if name == "" {
		return ""
	}
	return d.r.Join(name, "/", d.r.Text(v, "version"))
}

type decoder struct {
	b    *dialect.Builder
	r    *dialect.Request
	base dialect.Source
}

// release splits Sentry's package@version+build into app and release.
func (d *decoder) release(s *dialect.Source, text string) {
	if text == "" {
		return
	}
	if app, version, ok := strings.Cut(text, "@"); ok && app != "" && version != "" {
		s.App, s.Release = app, version
		return
	}
	s.Release = text
	if s.App == "" {
		s.App = "project"
		if d.r.Target != nil {
			parts := strings.Split(strings.Trim(d.r.Target.Path, "/"), "/")
			if len(parts) >= 2 && parts[0] == "api" {
				s.App = "project-" + parts[1]
			}
		}
	}
}

func (d *decoder) item(kind string, payload []byte) {
	switch kind {
	case "session", "sessions", "event", "transaction", "span", "client_report":
	default:
		d.b.Ignore(kind)
		return
	}
	v, err := d.r.JSON(payload)
	if err != nil || v.Type() != fastjson.TypeObject {
		d.b.Reject(event.ReasonJSON, kind, string(payload[:min(len(payload), 64)]), "an object in JSON")
		return
	}
	switch kind {
	case "session":
		d.session(v)
	case "sessions":
		d.aggregates(v)
	case "event":
		d.event(v)
	case "transaction":
		d.transaction(v)
	case "span":
		if items := v.GetArray("items"); items != nil {
			for _, s := range d.few(items) {
				d.spanV2(s)
			}
			return
		}
		d.spanV1(v)
	case "client_report":
		for _, e := range v.GetArray("discarded_events") {
			n, _ := dialect.Number(e, "quantity")
			d.b.Drop(d.r.Text(e, "category")+"/"+d.r.Text(e, "reason"), int64(n))
		}
	}
}

// session takes an update, which carries the whole state of a session: what
// it says twice counts once, since a session fails a metric once.
func (d *decoder) session(v *fastjson.Value) {
	s := d.base
	s.Session, s.User = d.r.Own(v, "sid"), d.r.Own(v, "did")
	d.attrs(&s, v.Get("attrs"))
	started, at := dialect.Time(v, "started"), dialect.Time(v, "timestamp")
	if at == 0 {
		at = started
	}
	if v.GetBool("init") {
		d.b.Add(s, event.One{Kind: event.Session, Name: "start", Time: started})
	}
	d.outcome(s, d.r.Text(v, "status"), d.r.Text(v, "abnormal_mechanism"), at)
}

func (d *decoder) attrs(s *dialect.Source, v *fastjson.Value) {
	d.release(s, d.r.Text(v, "release"))
	if env := d.r.Text(v, "environment"); env != "" {
		s.Env = env
	}
	dialect.Agent(&s.Ctx, d.r.Text(v, "user_agent"))
}

func (d *decoder) outcome(s dialect.Source, status, mechanism string, at int64) {
	switch status {
	case "crashed":
		d.b.Add(s, event.One{Kind: event.Crash, Name: "session crashed", Time: at})
	case "unhandled":
		d.b.Add(s, event.One{Kind: event.Error, Name: "session unhandled", Time: at, Attrs: d.r.List(dialect.Handled(false))})
	case "abnormal":
		kind := event.Crash
		if strings.HasPrefix(mechanism, "anr") {
			kind = event.ANR
		}
		d.b.Add(s, event.One{Kind: kind, Name: "session abnormal", Time: at})
	case "exited":
		d.b.Add(s, event.One{Kind: event.Session, Name: "end", Time: at})
	}
}

// aggregates takes counts of sessions, which become that many sessions: their
// ids are made of the batch's content, so that a retry counts once.
func (d *decoder) aggregates(v *fastjson.Value) {
	s := d.base
	d.attrs(&s, v.Get("attrs"))
	made := 0
	for i, a := range v.GetArray("aggregates") {
		started := dialect.Time(a, "started")
		s.User = d.r.Own(a, "did")
		for _, status := range []string{"exited", "errored", "crashed", "abnormal", "unhandled"} {
			for n := range a.GetInt(status) {
				if made == maxAggregates {
					d.b.Reject(event.ReasonCount, "aggregates", strconv.Itoa(a.GetInt(status)), fmt.Sprintf("at most %d sessions in an envelope", maxAggregates))
					return
				}
				made++
				s.Session = fmt.Sprintf("aggregate %s %d %d %s %d %s", s.Release, d.base.Sent, started, status, n, strconv.Itoa(i)+s.User)
				d.b.Add(s, event.One{Kind: event.Session, Name: "start", Time: started})
				d.outcome(s, status, "", started)
			}
		}
	}
}

// from reads the source of an event or a transaction.
func (d *decoder) from(v *fastjson.Value) dialect.Source {
	s := d.base
	if name := d.sdk(v.Get("sdk")); name != "" {
		s.SDK = name
	}
	d.release(&s, d.r.Text(v, "release"))
	if env := d.r.Text(v, "environment"); env != "" {
		s.Env = env
	}
	for _, key := range []string{"id", "username", "email"} {
		if s.User == "" {
			s.User = d.r.Own(v, "user", key)
		}
	}
	if trace := d.r.Own(v, "contexts", "trace", "trace_id"); trace != "" {
		s.Session = trace
	}
	if s.Session == "" {
		s.Session = d.r.Own(v, "event_id")
	}
	s.Tenancy = d.r.Text(v, "tags", "serin.tenancy")
	dialect.Agent(&s.Ctx, d.r.Text(v, "request", "headers", "User-Agent"))
	s.Ctx.Page = dialect.Path(d.r.Text(v, "request", "url"))
	if os := d.r.Text(v, "contexts", "os", "name"); os != "" {
		major, _, _ := strings.Cut(d.r.Text(v, "contexts", "os", "version"), ".")
		s.Ctx.OS = strings.TrimSpace(os + " " + major)
	}
	switch p := d.r.Text(v, "platform"); p {
	case "", "javascript":
	case "cocoa":
		s.Ctx.Platform, s.Ctx.Device = "ios", "mobile"
	case "java":
		s.Ctx.Platform, s.Ctx.Device = "android", "mobile"
	default:
		s.Ctx.Platform = p
	}
	return s
}

func (d *decoder) event(v *fastjson.Value) {
	s, at := d.from(v), dialect.Time(v, "timestamp")
	id := dialect.TextAttr("event_id", d.r.Own(v, "event_id"))
	list := v.GetArray("exception", "values")
	if list == nil {
		list = v.GetArray("exception")
	}
	if len(list) == 0 || synthetic(list[len(list)-1]) {
		d.b.Add(s, event.One{Kind: event.Event, Name: "message", Time: at, Message: d.message(v), Attrs: d.r.List(id)})
		return
	}
	x := list[len(list)-1] // causes come first
	h := x.Get("mechanism", "handled")
	handled := h == nil || h.Type() != fastjson.TypeFalse // null is not known
	e := event.One{Kind: event.Error, Name: d.r.Text(x, "type"), Time: at, Message: d.r.Text(x, "value"), Stack: d.r.Stack(x.GetArray("stacktrace", "frames"), true)}
	level := d.r.Text(v, "level")
	mechanism := d.r.Text(x, "mechanism", "type")
	switch {
	case strings.EqualFold(mechanism, "anr") || strings.EqualFold(mechanism, "AppHang") || e.Name == "ApplicationNotResponding":
		e.Kind = event.ANR
	case !handled && (level == "fatal" || s.Ctx.Platform == "ios" || s.Ctx.Platform == "android" || s.Ctx.Platform == "native"):
		e.Kind = event.Crash
	default:
		e.Attrs = append(e.Attrs, dialect.Handled(handled))
	}
	e.Attrs = append(e.Attrs, id)
	d.b.Add(s, e)
}

// synthetic reports whether an exception stands for a message: version 11
// sends one without type to carry the stack.
func synthetic(x *fastjson.Value) bool {
	return dialect.Text(x, "type") == "" && x.GetBool("mechanism", "synthetic")
}

func (d *decoder) message(v *fastjson.Value) string {
	for _, path := range [][]string{{"message"}, {"message", "formatted"}, {"logentry", "formatted"}, {"logentry", "message"}} {
		if m := d.r.Text(v, path...); m != "" {
			return m
		}
	}
	return ""
}

// inMS converts a measurement to the unit of vitals.
func inMS(value float64, unit string) float64 {
	switch unit {
	case "second":
		return value * 1e3
	case "microsecond":
		return value / 1e3
	case "nanosecond":
		return value / 1e6
	}
	return value
}

func (d *decoder) measurements(s dialect.Source, v *fastjson.Value, at int64) {
	obj := v.GetObject("measurements")
	if obj == nil {
		return
	}
	obj.Visit(func(key []byte, m *fastjson.Value) {
		f, ok := dialect.Number(m, "value")
		f = inMS(f, d.r.Text(m, "unit"))
		name := d.r.Words().Known(key)
		switch e, known := dialect.Vital(name, f, at); {
		case known && ok:
			d.b.Add(s, e)
		case known:
			d.b.Reject(event.ReasonType, "measurements."+name, m.String(), "an object with a value that is a number")
		case ok && (name == "app_start_cold" || name == "app_start_warm"):
			d.b.Add(s, event.One{Kind: event.Start, Name: strings.TrimPrefix(name, "app_start_"), Value: f, HasVal: true, Unit: "ms", Time: at})
		}
	})
}

func (d *decoder) transaction(v *fastjson.Value) {
	s, start, end := d.from(v), dialect.Time(v, "start_timestamp"), dialect.Time(v, "timestamp")
	op := d.r.Text(v, "contexts", "trace", "op")
	if op == "pageload" || op == "navigation" || op == "ui.load" {
		name := dialect.Path(d.r.Text(v, "transaction"))
		d.b.Add(s, event.One{Kind: event.View, Name: name, Time: start, Value: float64(max(end-start, 0)), HasVal: true, Unit: "ms"})
	} else {
		d.b.Ignore("transaction")
	}
	d.measurements(s, v, end)
	for _, sp := range d.few(v.GetArray("spans")) {
		d.spanInline(s, sp)
	}
}

// spanInline takes a span as transactions have them.
func (d *decoder) spanInline(s dialect.Source, sp *fastjson.Value) {
	f0, _ := dialect.Number(sp, "start_timestamp")
	f1, _ := dialect.Number(sp, "timestamp")
	attr := func(keys ...string) string {
		for _, k := range keys {
			if t := d.r.Text(sp, "data", k); t != "" {
				return t
			}
		}
		if keys[0] == "http.response.status_code" { // as the first of version 7 have it
			return d.r.Text(sp, "tags", "http.status_code")
		}
		return ""
	}
	d.span(s, d.r.Text(sp, "op"), d.r.Text(sp, "description"), d.r.Text(sp, "status"), f0, f1, attr)
}

// spanV1 takes a span item of its own, by which versions 8 to 10 send INP.
func (d *decoder) spanV1(v *fastjson.Value) {
	s := d.base
	if trace := d.r.Own(v, "trace_id"); trace != "" {
		s.Session = trace
	}
	d.release(&s, d.r.Text(v, "data", "release"))
	if env := d.r.Text(v, "data", "environment"); env != "" {
		s.Env = env
	}
	s.User = d.r.Own(v, "data", "user")
	dialect.Agent(&s.Ctx, d.r.Text(v, "data", "user_agent.original"))
	if page := d.r.Text(v, "data", "transaction"); strings.HasPrefix(page, "/") {
		s.Ctx.Page = dialect.Path(page)
	}
	end := dialect.Time(v, "timestamp")
	if v.Get("measurements") == nil {
		d.spanInline(s, v)
		return
	}
	d.measurements(s, v, end)
}

func (d *decoder) spanV2(v *fastjson.Value) {
	attr := func(keys ...string) string {
		for _, k := range keys {
			if t := d.r.Text(v, "attributes", k, "value"); t != "" {
				return t
			}
		}
		return ""
	}
	s := d.base
	if trace := d.r.Own(v, "trace_id"); trace != "" {
		s.Session = trace
	}
	d.release(&s, attr("sentry.release"))
	if env := attr("sentry.environment"); env != "" {
		s.Env = env
	}
	s.User, s.Tenancy = attr("user.id"), attr("serin.tenancy")
	dialect.Agent(&s.Ctx, attr("user_agent.original"))
	op := attr("sentry.op")
	if op != "http.client" && !strings.HasPrefix(op, "resource.") {
		s.Ctx.Page = dialect.Path(attr("url.full")) // on others it is what was asked for
	}
	start, _ := dialect.Number(v, "start_timestamp")
	end, _ := dialect.Number(v, "end_timestamp")
	at := dialect.Millis(end)
	for _, name := range []string{"lcp", "inp", "cls", "fcp", "ttfb"} {
		m := v.Get("attributes", "browser.web_vital."+name+".value", "value")
		if m == nil {
			continue
		}
		f, ok := dialect.Number(m)
		if !ok {
			d.b.Reject(event.ReasonType, "browser.web_vital."+name+".value", m.String(), "a number")
			continue
		}
		e, _ := dialect.Vital(name, f, at)
		d.b.Add(s, e)
	}
	if op == "pageload" || op == "navigation" {
		d.b.Add(s, event.One{Kind: event.View, Name: s.Ctx.Page, Time: dialect.Millis(start), Value: max(end-start, 0) * 1e3, HasVal: true, Unit: "ms"})
		return
	}
	d.span(s, op, d.r.Text(v, "name"), d.r.Text(v, "status"), start, end, attr)
}

// span takes the spans that are client events in their own right; start and
// end are Unix seconds.
func (d *decoder) span(s dialect.Source, op, description, status string, start, end float64, attr func(...string) string) {
	at, ms := dialect.Millis(start), max(end-start, 0)*1e3
	switch {
	case op == "http.client":
		method, target, _ := strings.Cut(description, " ")
		if m := attr("http.request.method", "http.method", "method"); m != "" {
			method = m
		}
		if u := attr("url.full", "http.url", "url"); u != "" {
			target = u
		}
		code, _ := strconv.Atoi(attr("http.response.status_code"))
		d.b.Add(s, d.r.RequestEvent(method, target, code, code == 0 && (status == "internal_error" || status == "error"), ms, at))
	case strings.HasPrefix(op, "resource."):
		if u := attr("url.full", "url"); u != "" {
			description = u
		}
		d.b.Add(s, event.One{Kind: event.Resource, Name: dialect.Path(description), Time: at, Value: ms, HasVal: true, Unit: "ms", Attrs: d.r.List(dialect.TextAttr("initiator", strings.TrimPrefix(op, "resource.")))})
	case op == "ui.long-task" || op == "ui.long-animation-frame" || op == "ui.long_task" || op == "ui.long_animation_frame":
		d.b.Add(s, event.One{Kind: event.LongTask, Name: "longtask", Time: at, Value: ms, HasVal: true, Unit: "ms"})
	default:
		d.b.Ignore("span")
	}
}
