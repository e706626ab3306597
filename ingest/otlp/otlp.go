package otlp

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/intern"
	"serin.dev/serin/internal/event"
)

// The signals, by the last part of their path.
const (
	Traces  = "traces"
	Logs    = "logs"
	Metrics = "metrics"
)

// Decode decodes one body; the signal is the last part of the target's path,
// and the content type says whether it is protobuf; else it is JSON.
func Decode(r *dialect.Request) (dialect.Result, error) {
	signal := ""
	if r.Target != nil {
		signal = r.Target.Path[strings.LastIndexByte(r.Target.Path, '/')+1:]
	}
	media := r.Header["content-type"]
	if strings.IndexByte(media, ';') >= 0 || strings.ToLower(media) != media {
		media, _, _ = mime.ParseMediaType(media)
	}
	if signal != Traces && signal != Logs && signal != Metrics {
		return dialect.Result{}, badSignal(signal)
	}
	d := decoders.Get().(*decoder)
	d.b, d.r, d.m = dialect.NewBuilder(r), r, r.Words()
	switch media {
	case "application/x-protobuf", "application/protobuf":
		if !d.protoBody(r.Body, signal) {
			return dialect.Result{}, &dialect.Error{Reason: event.ReasonEncoding, Field: "body", Value: fmt.Sprintf("%d bytes", len(r.Body)), Want: "a protobuf message of the signal " + signal}
		}
	default:
		v, err := r.JSON(r.Body)
		if err != nil {
			return dialect.Result{}, dialect.NotJSON(r.Body)
		}
		if v.Type() != fastjson.TypeObject {
			return dialect.Result{}, &dialect.Error{Reason: event.ReasonType, Field: "body", Value: v.Type().String(), Want: "an object"}
		}
		if err := d.jsonBody(v, signal); err != nil {
			return dialect.Result{}, err
		}
	}
	res := d.b.Result()
	d.done()
	return res, nil
}

func badSignal(signal string) error {
	return &dialect.Error{Reason: event.ReasonName, Field: "target", Value: signal, Want: "a path that ends in traces, logs or metrics"}
}

// Spans adds the spans of an array of resourceSpans that another protocol
// carries. What the resources do not say is taken from base; a request whose
// span's id is among told was told already.
func Spans(b *dialect.Builder, r *dialect.Request, resourceSpans *fastjson.Value, base dialect.Source, told map[string]bool) {
	d := decoders.Get().(*decoder)
	d.b, d.r, d.m, d.told = b, r, r.Words(), told
	for _, g := range resourceSpans.GetArray() {
		d.base = base
		d.jsonScopes(g, Traces)
	}
	d.done()
}

// decoder decodes one body, a record at a time: what it reads into is used again
// for the next record and the next body.
type decoder struct {
	b        *dialect.Builder
	r        *dialect.Request
	m        *intern.Memory
	base     dialect.Source // what the resource says
	resource attrs
	rec      record
	points   []record // of one metric in protobuf, whose name may follow them
	page     string   // the newest that a record named
	pageOf   string   // its session
	told     map[string]bool
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// maxKept is how many attributes, events or points a decoder may have read into
// and be kept: one large body is no reason to keep as much.
const maxKept = 256

// done gives a decoder back. One that has panicked, or has refused its body, is
// not given back.
func (d *decoder) done() {
	if cap(d.resource) > maxKept || cap(d.rec.attrs) > maxKept || cap(d.rec.events) > maxKept || cap(d.points) > maxKept {
		return
	}
	d.b, d.r, d.m, d.told = nil, nil, nil, nil
	d.page, d.pageOf = "", ""
	d.rec.reset() // whose trace lies in the body
	decoders.Put(d)
}

// text returns a text that outlives the body: one copy of what repeats, unless it
// is said to be of its record alone.
func (d *decoder) text(b []byte, own bool) string {
	if own {
		return d.m.Own(b)
	}
	return d.m.Known(b)
}

// unique reports whether an attribute has another value for each session or
// record, by its key.
func unique(key string) bool {
	switch key {
	case "session.id", "user.id", "enduser.id", "user.hash", "app.installation.id":
		return true
	}
	return false
}

// record takes a record that was read.
func (d *decoder) record(signal string, r *record) {
	switch signal {
	case Traces:
		d.span(r)
	case Logs:
		d.log(r)
	case Metrics:
		d.point(r)
	}
}

// source reads who speaks from the resource.
func (d *decoder) source(as attrs) dialect.Source {
	var s dialect.Source
	sdk := as.get("telemetry.distro.name", "telemetry.sdk.name").string()
	if sdk == "" {
		sdk = "opentelemetry"
	}
	s.SDK = sdk
	if v := as.get("telemetry.distro.version", "telemetry.sdk.version").string(); v != "" {
		s.SDK += "/" + v
	}
	s.App = as.get("service.name").string()
	s.Env = as.get("deployment.environment.name", "deployment.environment").string()
	agent := as.get("user_agent.original", "browser.user_agent").string()
	if agent == "" && !as.has("os.name") && !as.has("device.model.identifier") {
		agent = d.r.Header["user-agent"]
	}
	dialect.Agent(&s.Ctx, agent)
	if os := as.get("os.name", "os.type").string(); os != "" {
		major, _, _ := strings.Cut(as.get("os.version").string(), ".")
		s.Ctx.OS = strings.TrimSpace(os + " " + major)
		switch strings.ToLower(os) {
		case "android", "ios", "ipados":
			s.Ctx.Platform = strings.Replace(strings.ToLower(os), "ipados", "ios", 1)
			s.Ctx.Device = "mobile"
		}
	}
	if as.get("browser.mobile").string() == "true" {
		s.Ctx.Device = "mobile"
	}
	refine(&s, as, ofEvent)
	return s
}

// subject is what a record is of, which says what a URL in it is.
type subject int

const (
	ofEvent    subject = iota // url.full is the page's, unless the record has a request's keys
	ofView                    // and so is url.path
	ofResource                // neither is
)

// who returns whose a record is: its resource's source, refined.
func (d *decoder) who(r *record, of subject) dialect.Source {
	s := d.base
	refine(&s, r.attrs, of)
	if of == ofView {
		if u := r.attrs.get("url").string(); u != "" && !r.attrs.has("url.full") { // what the body of a view's event called it
			s.Ctx.Page = dialect.Path(u)
		}
	}
	if s.Session == "" {
		s.Session = r.traceID()
	}
	// A request's record names no page. It was made on the page that its session
	// was on, and is of one beacon with what else happened there.
	switch {
	case s.Ctx.Page != "":
		d.page, d.pageOf = s.Ctx.Page, s.Session
	case s.Session == d.pageOf:
		s.Ctx.Page = d.page
	}
	return s
}

// refine puts what a record says of itself over what its resource said: the
// crash of a release before names that release and that session.
func refine(s *dialect.Source, as attrs, of subject) {
	var best [refinements]value
	var rank [refinements]int // from 1, the key that counts most; 0: none of its keys is there
	request := false
	for i := range as {
		f, n := refinement(as[i].key)
		if n == 0 {
			continue
		}
		if f == fieldRequest {
			request = true
		} else if rank[f] == 0 || n < rank[f] { // of a key that is there twice the first counts
			best[f], rank[f] = as[i].val, n
		}
	}
	for f, to := range [...]*string{fieldRelease: &s.Release, fieldSession: &s.Session, fieldUser: &s.User, fieldTenancy: &s.Tenancy, fieldNetwork: &s.Ctx.Network} {
		if rank[f] == 0 {
			continue
		}
		if v := best[f].string(); v != "" {
			*to = v
		}
	}
	if u := best[fieldPage].string(); u != "" && !request && of != ofResource {
		s.Ctx.Page = dialect.Path(u)
	} else if screen := best[fieldScreen].string(); screen != "" {
		s.Ctx.Page = dialect.Path(screen)
	} else if path := best[fieldPath].string(); path != "" && of == ofView {
		s.Ctx.Page = dialect.Path(path)
	}
}

// The fields that a record may refine.
const (
	fieldRelease = iota
	fieldSession
	fieldUser
	fieldTenancy
	fieldNetwork
	fieldPage
	fieldScreen
	fieldPath
	fieldRequest // no field: its keys say that a URL is not the page's
	refinements
)

// refinement returns the field that an attribute's key is of, and which of the
// field's keys it is, from 1; 0 for any other key. Records have many attributes,
// of which each is looked at once.
func refinement(key string) (field, n int) {
	switch key {
	case "service.version":
		return fieldRelease, 1
	case "app.version":
		return fieldRelease, 2
	case "app.build_id":
		return fieldRelease, 3
	case "session.id":
		return fieldSession, 1
	case "user.id":
		return fieldUser, 1
	case "enduser.id":
		return fieldUser, 2
	case "user.hash":
		return fieldUser, 3
	case "app.installation.id":
		return fieldUser, 4
	case "serin.tenancy":
		return fieldTenancy, 1
	case "network.connection.subtype":
		return fieldNetwork, 1
	case "network.connection.type":
		return fieldNetwork, 2
	case "url.full":
		return fieldPage, 1
	case "page.url":
		return fieldPage, 2
	case "browser.url":
		return fieldPage, 3
	case "app.screen.name":
		return fieldScreen, 1
	case "screen.name":
		return fieldScreen, 2
	case "app.navigation.destination.name":
		return fieldScreen, 3
	case "url.path":
		return fieldPath, 1
	case "http.request.method", "http.method":
		return fieldRequest, 1
	}
	return 0, 0
}

const nanosPerMilli = 1e6

func millis(ns int64) int64 { return ns / nanosPerMilli }

func duration(r *record) (ms float64) {
	if r.start == 0 || r.end < r.start {
		return 0
	}
	return float64(r.end-r.start) / nanosPerMilli
}

func (d *decoder) log(r *record) {
	name := r.name
	if name == "" {
		name = r.attrs.get("event.name").string() // before event names were a field
	}
	of := ofEvent
	switch name {
	case "browser.navigation", "browser.page_view", "app.screen.view", "app.navigation.complete", "view":
		of = ofView
	case "browser.resource_timing":
		of = ofResource
	}
	s := d.who(r, of)
	at := millis(r.start)
	switch name {
	case "session.start", "session.end":
		d.b.Add(s, event.One{Kind: event.Session, Name: strings.TrimPrefix(name, "session."), Time: at})
	case "browser.web_vital", "web_vital":
		vital := r.attrs.get("browser.web_vital.name", "web_vital.name", "name").string()
		f, ok := r.attrs.get("browser.web_vital.value", "web_vital.value", "value").float()
		e, known := dialect.Vital(vital, f, at)
		switch {
		case !known:
			d.b.Reject(event.ReasonName, "browser.web_vital.name", vital, "lcp, inp, cls, fcp, ttfb or fid")
		case !ok:
			d.b.Reject(event.ReasonType, "browser.web_vital.value", r.attrs.get("browser.web_vital.value").string(), "a number")
		default:
			d.b.Add(s, e)
		}
	case "app.crash", "device.crash", "metrickit.diagnostic.crash":
		d.b.Add(s, d.exception(event.Crash, r, at))
	case "app.anr", "device.anr", "metrickit.diagnostic.hang":
		d.b.Add(s, d.exception(event.ANR, r, at))
	case "app.jank":
		d.jank(s, r, at)
	case "app.start", "app.startup":
		d.start(s, r.attrs, at, r)
	case "":
		if r.thrown() {
			d.b.Add(s, d.exception(event.Error, r, at))
			return
		}
		d.b.Add(s, event.One{Kind: event.Event, Name: event.NameLog, Time: at, Message: r.body})
	case "browser.console":
		d.b.Add(s, event.One{Kind: event.Event, Name: event.NameLog, Time: at, Message: r.body, Attrs: d.r.List(dialect.TextAttr("level", r.attrs.get("browser.console.method").string()))})
	case "exception", "error", "browser.exception":
		d.b.Add(s, d.exception(event.Error, r, at))
	case "browser.navigation", "browser.page_view", "app.screen.view", "app.navigation.complete", "view":
		d.b.Add(s, event.One{Kind: event.View, Name: s.Ctx.Page, Time: at})
	case "browser.resource_timing":
		ms, ok := r.attrs.get("browser.resource_timing.duration").float()
		d.b.Add(s, event.One{Kind: event.Resource, Name: dialect.Path(r.attrs.get("url.full").string()), Time: at, Value: ms, HasVal: ok, Unit: "ms",
			Attrs: d.r.List(dialect.TextAttr("initiator", r.attrs.get("browser.resource_timing.initiator_type").string()))})
	default:
		if r.thrown() {
			d.b.Add(s, d.exception(event.Error, r, at))
			return
		}
		d.b.Add(s, event.One{Kind: event.Event, Name: name, Time: at, Message: r.body, Attrs: d.own(r.attrs)})
	}
}

// jank takes a report that some frames took longer than a threshold within a
// period: they lasted at least as long as that many thresholds.
func (d *decoder) jank(s dialect.Source, r *record, at int64) {
	ms, ok := r.attrs.get("app.jank.period").float()
	ms *= 1000
	frames, counted := r.attrs.get("app.jank.frame_count").float()
	if least, known := r.attrs.get("app.jank.threshold").float(); counted && known {
		ms, ok = frames*(least*1000), true
	}
	e := event.One{Kind: event.LongTask, Name: "jank", Time: at, Value: ms, HasVal: ok, Unit: "ms"}
	if counted {
		e.Attrs = d.r.List(event.Attr{Key: "frames", Num: true, Number: frames})
	}
	d.b.Add(s, e)
}

// start takes an app start, of which no convention is stable.
func (d *decoder) start(s dialect.Source, as attrs, at int64, r *record) {
	name := as.get("start.type", "app.start.type").string()
	if name == "" {
		name = "cold"
	}
	ms, ok := as.get("app.start.duration").float()
	if !ok {
		ms, ok = duration(r), r.end > 0
	}
	d.b.Add(s, event.One{Kind: event.Start, Name: name, Time: at, Value: ms, HasVal: ok, Unit: "ms"})
}

// exception makes an event of the exception attributes. An exception that a
// log record tells is uncaught, unless it says otherwise: what recorded it is
// the handler of last resort. One on a span was recorded by the app.
func (d *decoder) exception(kind event.Kind, r *record, at int64) event.One {
	name := r.attrs.get("exception.type").string()
	if name == "" {
		name = kind.String()
	}
	e := event.One{Kind: kind, Name: name, Time: at, Message: r.attrs.get("exception.message").string(), Stack: r.attrs.get("exception.stacktrace").string()}
	if e.Message == "" {
		e.Message = r.body
	}
	if kind == event.Error {
		handled := r.attrs.get("exception.handled", "error.handled").string() == "true"
		if v := r.attrs.get("exception.escaped").string(); v != "" {
			handled = v == "false"
		} else if r.severity > 0 && r.severity < 17 {
			handled = true // below the severity of an error
		}
		e.Attrs = append(e.Attrs, dialect.Handled(handled))
	}
	return e
}

func (d *decoder) span(r *record) {
	of := ofEvent
	switch r.name {
	case "documentLoad":
		of = ofView
	case "resourceFetch":
		of = ofResource
	}
	s := d.who(r, of)
	at := millis(r.start)
	method := r.attrs.get("http.request.method", "http.method").string()
	switch {
	case r.name == "AppStart" || r.name == "app.start":
		d.start(s, r.attrs, at, r)
	case r.name == "documentLoad":
		d.b.Add(s, event.One{Kind: event.View, Name: s.Ctx.Page, Time: at, Value: duration(r), HasVal: true, Unit: "ms"})
	case r.name == "resourceFetch":
		d.b.Add(s, event.One{Kind: event.Resource, Name: dialect.Path(r.attrs.get("http.url", "url.full").string()), Time: at, Value: duration(r), HasVal: true, Unit: "ms"})
	case r.told:
		d.b.Ignore("span")
	case method != "" && (r.kind == 3 || r.kind == 0):
		status, _ := r.attrs.get("http.response.status_code", "http.status_code").float()
		d.b.Add(s, d.r.RequestEvent(method, r.attrs.get("url.full", "http.url", "url.path").string(), int(status), status == 0 && r.status == 2, duration(r), at))
	case len(r.events) == 0:
		d.b.Ignore("span")
	}
	for i := range r.events {
		e := &r.events[i]
		if e.name != "exception" {
			continue // timings of the span
		}
		one := d.exception(event.Error, e, millis(e.start))
		if e.attrs.get("exception.escaped").string() != "true" {
			one.Attrs = []event.Attr{dialect.Handled(true)}
		}
		d.b.Add(s, one)
	}
}

func (d *decoder) point(r *record) {
	s := d.who(r, ofEvent)
	if !r.hasValue {
		d.b.Reject(event.ReasonMissing, r.name, "", "a point with a value or a sum")
		return
	}
	e := event.One{Kind: event.Metric, Name: r.name, Unit: r.unit, Time: millis(r.start), Value: r.value, HasVal: true, Attrs: d.own(r.attrs)}
	if r.count > 0 {
		e.Attrs = append(e.Attrs, event.Attr{Key: "count", Num: true, Number: r.count})
	}
	d.b.Add(s, e)
}

// own returns the attributes that are the record's own, and not columns.
func (d *decoder) own(as attrs) []event.Attr {
	from := d.m.Begin()
	for i := range as {
		a := &as[i]
		switch a.key {
		case "session.id", "user.id", "enduser.id", "service.version", "url.full", "":
			continue
		}
		out := d.m.Open(from)
		if len(out) == event.MaxAttrs-1 || slices.ContainsFunc(out, func(o event.Attr) bool { return o.Key == a.key }) {
			continue
		}
		from = d.m.Add(from, event.Attr{Key: a.key, Text: a.val.text, Num: a.val.num, Number: a.val.number})
	}
	return d.m.Keep(from, 0)
}
