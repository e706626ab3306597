package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/encoding/protowire"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/datadog"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/elastic"
	"serin.dev/serin/ingest/faro"
	"serin.dev/serin/ingest/otlp"
	"serin.dev/serin/ingest/report"
	"serin.dev/serin/ingest/sentry"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// protocol is one foreign protocol: where it is served, how its key is found,
// how its bodies are decoded, and how its SDKs want to be answered.
type protocol struct {
	name   string
	paths  []string // patterns without method; {key} is the public key
	key    func(*dialect.Request) string
	decode func(*dialect.Request) (dialect.Result, error)
	ok     func(*answer, *dialect.Request, *outcome)
	refuse func(*answer, *dialect.Request, *refusal)
	types  []string // content types that it takes; none: any, since there is one format
}

// keyInBody reports whether the key of a request that has none in its head may
// be in its body: only a Sentry tunnel's is.
func (p *protocol) keyInBody(r *dialect.Request) bool {
	return p.name == "sentry" && r.Header["content-encoding"] == ""
}

// visit is one foreign request: its head, and then whose it is.
type visit struct {
	p      *protocol
	req    dialect.Request
	grant  *tenant.Grant
	peer   netip.Addr // and never in req, which decoders see
	header func(name string) string
	client admit.Client // when the key was checked
}

// place says where a visit comes from, and takes the client's address out of
// what decoders see.
func (e *Edge) place(v *visit, peer netip.Addr, header func(string) string) {
	for _, name := range addressHeaders {
		delete(v.req.Header, name)
	}
	v.peer, v.header = peer, header
	v.req.Peer = e.perimeter.Pseudonym(peer, header, v.req.Now)
}

// outcome is what became of a body that was taken.
type outcome struct {
	accepted int
	shed     int
	rejected []dialect.Rejection
	minor    bool // it is no production traffic, all of which is of the lowest class
}

func (o *outcome) message() string {
	r := &o.rejected[0]
	return fmt.Sprintf("%s: %s: %q: want %s", r.Reason, r.Field, r.Value, r.Want)
}

var protocols = []protocol{
	{"faro", []string{"/faro/collect", "/faro/collect/{key}"}, headerKey, faro.Decode, accepted, plainRefusal, nil},
	{"sentry", []string{"/api/{project}/envelope/"}, sentry.Key, sentry.Decode, sentryOK, sentryRefusal, nil},
	{"otlp", []string{"/v1/traces", "/v1/logs", "/v1/metrics"}, headerKey, otlp.Decode, otlpOK, otlpRefusal,
		[]string{"application/json", "application/x-protobuf", "application/protobuf", "text/plain"}},
	{"reporting", []string{"/v1/reports"}, headerKey, report.DecodeReports, noContent, plainRefusal, nil},
	{"web-vitals", []string{"/v1/vitals"}, headerKey, report.DecodeVitals, noContent, plainRefusal, nil},
	{"elastic", []string{"/elastic/{key}/intake/v2/rum/events", "/elastic/{key}/intake/v3/rum/events", "/intake/v2/rum/events", "/intake/v3/rum/events"},
		headerKey, elastic.Decode, accepted, plainRefusal, nil},
	{"datadog", []string{"/dd"}, datadog.Key, datadog.Decode, accepted, plainRefusal, nil},
}

// route is a path of a protocol, cut at its wildcard.
type route struct {
	p         *protocol
	pre, post string
	wild      string // the wildcard's name; empty: pre is the whole path
}

var routes = func() (all []route) {
	for i := range protocols {
		for _, path := range protocols[i].paths {
			pre, rest, wild := strings.Cut(path, "{")
			name, post, _ := strings.Cut(rest, "}")
			if !wild {
				name = ""
			}
			all = append(all, route{&protocols[i], pre, post, name})
		}
	}
	return all
}()

// routed returns the protocol of a path, nil where it is none, and the key
// where that is a part of the path.
func routed(path []byte) (*protocol, string) {
	for i := range routes {
		r := &routes[i]
		if r.wild == "" {
			if string(path) == r.pre {
				return r.p, ""
			}
			continue
		}
		if len(path) <= len(r.pre)+len(r.post) || string(path[:len(r.pre)]) != r.pre || string(path[len(path)-len(r.post):]) != r.post {
			continue
		}
		part := path[len(r.pre) : len(path)-len(r.post)]
		if bytes.ContainsAny(part, "/%") {
			continue
		}
		if r.wild == "key" {
			return r.p, string(part)
		}
		return r.p, ""
	}
	return nil, ""
}

// headerKey finds the key where protocols without a place of their own for it
// put it: the query, a header of API keys, or a bearer token.
func headerKey(r *dialect.Request) string {
	if k := r.Query("key"); k != "" {
		return k
	}
	if k := r.Header["x-api-key"]; k != "" {
		return k
	}
	k, _ := strings.CutPrefix(r.Header["authorization"], "Bearer ")
	return k
}

func (e *Edge) foreignRoutes() {
	for i := range protocols {
		p := &protocols[i]
		for _, path := range p.paths {
			e.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { e.foreignHTTP(p, w, r) })
			e.mux.HandleFunc("OPTIONS "+path, foreignPreflight)
		}
	}
}

// sdkHeaders are what the SDKs ask for in their preflights.
const sdkHeaders = "Authorization, Baggage, Content-Encoding, Content-Type, Idempotency-Key, Sentry-Trace, Traceparent, Tracestate, " +
	"X-Api-Key, X-Faro-Session-Id, X-Sentry-Auth"

// foreignPreflight lets every origin ask: the key, which says what origins
// there are, comes only with the request, and is checked there.
func foreignPreflight(w http.ResponseWriter, r *http.Request) {
	a := answer{status: http.StatusNoContent}
	a.cors(r.Header.Get("Origin"))
	a.set("Access-Control-Allow-Methods", "POST")
	a.set("Access-Control-Allow-Headers", sdkHeaders)
	a.set("Access-Control-Max-Age", "7200")
	a.writeTo(w)
}

// maxDSN bounds how much of a body is read before its key is known: only a
// Sentry tunnel has its key in the body.
const maxDSN = 4 << 10

// foreignHTTP is the way of foreign bodies over net/http.
func (e *Edge) foreignHTTP(p *protocol, w http.ResponseWriter, r *http.Request) {
	wk := e.works.Get().(*work)
	defer e.works.Put(wk)
	a := &wk.answer
	a.reset()
	defer a.writeTo(w)
	now := e.o.Now()
	wk.visit = visit{p: p, req: dialect.Request{Method: r.Method, Target: r.URL, Header: make(map[string]string, len(r.Header)), Now: now.UnixMilli(),
		Key: r.PathValue("key")}}
	v := &wk.visit
	for name, values := range r.Header {
		v.req.Header[strings.ToLower(name)] = values[0]
	}
	if list := r.Header["Baggage"]; len(list) > 1 {
		v.req.Header["baggage"] = strings.Join(list, ",")
	}
	e.place(v, peerOf(r), headerOf(r.Header))
	if v.req.Key == "" {
		v.req.Key = p.key(&v.req)
	}
	body := io.Reader(r.Body)
	if v.req.Key == "" && p.keyInBody(&v.req) {
		head := make([]byte, maxDSN)
		n := 0
		for n < len(head) && !bytes.ContainsRune(head[:n], '\n') {
			m, err := r.Body.Read(head[n:])
			n += m
			if err != nil {
				break
			}
		}
		v.req.Body = head[:n]
		v.req.Key = p.key(&v.req)
		body = io.MultiReader(bytes.NewReader(head[:n]), r.Body)
	}
	ref := e.foreignHead(a, v)
	if ref == nil {
		if ref = wk.raw.read(body, r.ContentLength, ""); ref != nil { // inflated where it is decoded
			rejected("beacon", name(v.grant), ref.reason, 1)
		}
	}
	if ref != nil {
		p.refuse(a, &v.req, ref)
		return
	}
	e.foreign(r.Context(), wk, wk.raw.body)
}

// foreignHead checks, and counts, what can be checked before the body is read.
func (e *Edge) foreignHead(a *answer, v *visit) *refusal {
	g, ref := e.authorize(a, v.req.Key, v.req.Header["origin"])
	if ref == nil {
		v.client = e.perimeter.Client(g, v.peer, v.header, v.req.Now)
		ref = e.crowded(a, g, &v.client)
	}
	if ref != nil {
		rejected("beacon", name(g), ref.reason, 1)
		return ref
	}
	v.grant = g
	return nil
}

// foreign decodes, admits and stores what a body of another protocol holds,
// and answers when it is synced. body may be overwritten after it returns.
func (e *Edge) foreign(ctx context.Context, wk *work, body []byte) {
	start := time.Now()
	a, v := &wk.answer, &wk.visit
	p, g, req := v.p, v.grant, &v.req
	refuse := func(ref *refusal) {
		rejected("beacon", g.Tenant.String(), ref.reason, 1)
		p.refuse(a, req, ref)
	}
	req.App = g.App
	t, ref := e.takeForeign(ctx, v, body)
	e.breaker.note(sender{g.KeyID, v.client.Prefix}, ref.weight())
	if ref != nil {
		if ref.status == http.StatusServiceUnavailable || ref.status == http.StatusTooManyRequests {
			a.retry(5 * time.Second)
		}
		refuse(ref)
		return
	}
	if t.err == nil && t.group != nil {
		wk.done()
		t.err = e.wait(ctx, t.group)
	}
	if t.err != nil {
		if ctx.Err() != nil {
			return // the client has gone, and is told nothing
		}
		rejected("event", g.Tenant.String(), event.ReasonBusy, t.accepted)
		countRejected(g, t.rejected)
		a.retry(2 * time.Second)
		refuse(&refusal{http.StatusServiceUnavailable, event.ReasonBusy, "journal", t.err.Error(), "a journal with room; send the same body again"})
		return
	}
	e.count(p, g, &t)
	if t.beacons > 0 {
		e.advise(a, g, t.tenancy, t.live)
		t.minor = t.tenancy != event.Production
	}
	p.ok(a, req, &t.outcome)
	e.metrics.ack.UpdateDuration(start)
}

// takenForeign is what a foreign body was decoded into, when that is in a group.
type takenForeign struct {
	outcome
	group   *pendingGroup // nil where nothing is to be stored
	err     error         // of the batcher
	beacons int
	tenancy event.Tenancy // of the first beacon
	live    bool          // its session takes part in a rollout
	ignored int           // items
	lost    int64         // by the client
}

// takeForeign decodes and admits a foreign body, and puts it into a group.
func (e *Edge) takeForeign(ctx context.Context, v *visit, body []byte) (t takenForeign, ref *refusal) {
	d := e.decoders.Get().(*decoding)
	defer e.decoders.Put(d)
	g, req := v.grant, &v.req
	req.Body = body
	res, ref := e.decodeForeign(ctx, d, g, v.client.Prefix, v.p, req)
	req.Body = nil
	if ref != nil {
		return t, ref
	}
	t.rejected = res.Rejected
	e.admitAll(g, &v.client, &d.memo, req, res, &t.outcome)
	for _, n := range res.Ignored {
		t.ignored += n
	}
	for i := range res.Drops {
		t.lost += res.Drops[i].Count
	}
	if t.beacons = len(res.Beacons); t.beacons == 0 {
		return t, nil
	}
	first := &res.Beacons[0]
	t.tenancy, t.live = first.Tenancy, e.gate.Enrolled(g, first)
	var few [4]*event.Beacon
	list := few[:0]
	for i := range res.Beacons {
		list = append(list, &res.Beacons[i])
	}
	t.group, t.err = e.batcher.put(g.Tenant, list...)
	return t, nil
}

// admitAll holds the beacons against the grant, and takes out of res what is
// not admitted.
func (e *Edge) admitAll(g *tenant.Grant, client *admit.Client, m *admit.Memo, req *dialect.Request, res *dialect.Result, o *outcome) {
	least := max(admit.Claimed(req.Header["baggage"]), own(g)) // a protocol without tenancies has its key's
	kept := res.Beacons[:0]
	for i := range res.Beacons {
		b := &res.Beacons[i]
		b.Tenancy = max(b.Tenancy, least)
		whole, late := admit.Beacon(g, client, m, b, req.Now)
		if whole != nil {
			if unwanted(whole) {
				rejected("event", g.Tenant.String(), whole.Reason, len(b.Events))
			}
			o.rejected = append(o.rejected, dialect.Rejection{Index: whole.Index, Reason: whole.Reason, Field: whole.Field, Value: whole.Value, Want: whole.Want})
			continue
		}
		for _, l := range late {
			o.rejected = append(o.rejected, dialect.Rejection{Index: l.Index, Reason: l.Reason, Field: l.Field, Value: l.Value, Want: l.Want})
		}
		if len(b.Events) == 0 {
			continue
		}
		o.shed += e.gate.Shed(g, b)
		e.cardinality.Bound(g, client, m, b, req.Now)
		o.accepted += len(b.Events)
		if len(kept) < i { // the places are changed, so that no list of events is in two
			kept = append(kept, *b)
			res.Beacons[i].Events = nil
			continue
		}
		kept = res.Beacons[:i+1]
	}
	res.Beacons = kept
}

func (e *Edge) count(p *protocol, g *tenant.Grant, t *takenForeign) {
	e.metrics.accepted.Add(t.accepted)
	e.metrics.beacons.Add(t.beacons)
	countRejected(g, t.rejected)
	c := e.counters(p, g)
	c.ignored.Add(t.ignored)
	c.lost.AddInt64(t.lost)
}

func countRejected(g *tenant.Grant, list []dialect.Rejection) {
	for i := range list {
		if list[i].Reason != event.ReasonPrivacy { // those were counted where they were left out
			rejected("event", g.Tenant.String(), list[i].Reason, 1)
		}
	}
}

// foreignCounters are those of a tenant and a protocol. Item types are the
// client's to choose, and no label may be.
type foreignCounters struct{ ignored, lost *metrics.Counter }

type counterOf struct {
	p  *protocol
	id tenant.ID
}

// counters returns counters, remembered: to find them by their text for each body
// was a fiftieth of the server's time.
func (e *Edge) counters(p *protocol, g *tenant.Grant) *foreignCounters {
	if c, ok := e.foreignCounts.Load(counterOf{p, g.Tenant}); ok {
		return c.(*foreignCounters)
	}
	name := g.Tenant.String()
	c := &foreignCounters{
		metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_ignored_items_total{tenant=%q,protocol=%q}`, name, p.name)),
		metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_client_dropped_total{tenant=%q,protocol=%q}`, name, p.name)),
	}
	e.foreignCounts.Store(counterOf{p, g.Tenant}, c)
	return c
}

// The answers.

func accepted(a *answer, _ *dialect.Request, o *outcome) {
	list := make([]rejection, len(o.rejected))
	for i, r := range o.rejected {
		list[i] = rejection{r.Index, r.Reason, r.Field, r.Value, r.Want}
	}
	a.taken(o.accepted, o.shed, list)
}

func noContent(a *answer, _ *dialect.Request, _ *outcome) { a.status = http.StatusNoContent }

func plainRefusal(a *answer, _ *dialect.Request, f *refusal) { f.put(a) }

func sentryOK(a *answer, _ *dialect.Request, o *outcome) {
	if len(o.rejected) > 0 {
		a.set("X-Sentry-Error", o.message())
	}
	if limits := sentryLimits(a.get("Serin-Classes"), o.minor); limits != "" {
		a.set("X-Sentry-Rate-Limits", limits)
	}
	a.json(http.StatusOK, struct{}{})
}

// sentryCategories are what Sentry's SDKs can hold, by the highest class of what
// may be in it: an item is held only where nothing in it would be kept.
var sentryCategories = [event.Classes]string{
	event.ClassResource: "attachment;feedback;log_item;profile;replay;trace_metric",
	event.ClassVital:    "span;transaction",
	event.ClassCrash:    "error;session",
}

// sentryStop is for how many seconds a class is held that is not to be sent: the
// next answer says so again.
const sentryStop = "60"

// sentryLimits says what Serin-Classes says in the words of Sentry's SDKs.
func sentryLimits(classes string, minor bool) string {
	if classes == "" {
		return ""
	}
	var limits []string
	for part := range strings.SplitSeq(classes, ", ") {
		class, hold, _ := strings.Cut(part, ";")
		seconds, wait := strings.CutPrefix(hold, "wait=")
		if !wait {
			seconds = sentryStop
		}
		for c, categories := range sentryCategories {
			if class != event.Class(c).String() || categories == "" {
				continue
			}
			if minor {
				categories = "" // all there are
			}
			limits = append(limits, seconds+":"+categories+":organization:overload")
		}
	}
	return strings.Join(limits, ", ")
}

// sentryRefusal answers as Relay does; an SDK backs off by the header.
func sentryRefusal(a *answer, _ *dialect.Request, f *refusal) {
	if after := a.get("Retry-After"); after != "" {
		a.set("X-Sentry-Rate-Limits", after+"::organization")
	}
	a.json(f.status, map[string]any{"detail": fmt.Sprintf("%s: %q: want %s", f.field, shortened(f.value), f.want), "causes": []string{string(f.reason)}})
}

func protobuf(r *dialect.Request) bool {
	return strings.Contains(r.Header["content-type"], "protobuf")
}

// otlpOK answers in the encoding of the request, with a partial success where
// something was rejected.
func otlpOK(a *answer, r *dialect.Request, o *outcome) {
	n := len(o.rejected)
	if protobuf(r) {
		a.status, a.ctype, a.body = http.StatusOK, "application/x-protobuf", a.body[:0]
		if n == 0 {
			return
		}
		part := protowire.AppendTag(nil, 1, protowire.VarintType)
		part = protowire.AppendVarint(part, uint64(n))
		part = protowire.AppendTag(part, 2, protowire.BytesType)
		part = protowire.AppendString(part, o.message())
		a.body = protowire.AppendTag(a.body, 1, protowire.BytesType)
		a.body = protowire.AppendBytes(a.body, part)
		return
	}
	if n == 0 {
		a.json(http.StatusOK, struct{}{})
		return
	}
	path := r.Target.Path
	field := map[string]string{otlp.Traces: "rejectedSpans", otlp.Logs: "rejectedLogRecords", otlp.Metrics: "rejectedDataPoints"}[path[strings.LastIndexByte(path, '/')+1:]]
	a.json(http.StatusOK, map[string]any{"partialSuccess": map[string]string{field: fmt.Sprint(n), "errorMessage": o.message()}})
}

// otlpRefusal answers with a google.rpc.Status, as the specification wants.
func otlpRefusal(a *answer, r *dialect.Request, f *refusal) {
	code := map[int]int{http.StatusUnauthorized: 16, http.StatusForbidden: 7, http.StatusServiceUnavailable: 14, http.StatusTooManyRequests: 8, http.StatusRequestEntityTooLarge: 8}[f.status]
	if code == 0 {
		code = 3
	}
	text := fmt.Sprintf("%s: %s: %q: want %s", f.reason, f.field, shortened(f.value), f.want)
	if protobuf(r) {
		a.status, a.ctype = f.status, "application/x-protobuf"
		a.body = protowire.AppendTag(a.body[:0], 1, protowire.VarintType)
		a.body = protowire.AppendVarint(a.body, uint64(code))
		a.body = protowire.AppendTag(a.body, 2, protowire.BytesType)
		a.body = protowire.AppendString(a.body, text)
		return
	}
	a.json(f.status, map[string]any{"code": code, "message": text})
}

// Protocols returns the names that [DecodeBody] knows.
func Protocols() []string {
	names := []string{"native"}
	for _, p := range protocols {
		names = append(names, p.name)
	}
	return names
}

// Capture is one request as it was recorded.
type Capture struct {
	Method  string            `json:"method"`
	Target  string            `json:"target"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"-"`
}

// DecodeBody decodes a recorded request as the edge does, without a key and
// without a store: what it returns is what would be stored. now is the receive
// time. Errors are those of the decoder, or of an unknown protocol.
func DecodeBody(name string, c Capture, now time.Time) (dialect.Result, error) {
	target, err := url.Parse(c.Target)
	if err != nil {
		return dialect.Result{}, fmt.Errorf("target: %w", err)
	}
	req := &dialect.Request{Method: c.Method, Header: map[string]string{}, Now: now.UnixMilli()}
	for _, k := range slices.Sorted(maps.Keys(c.Headers)) {
		req.Header[strings.ToLower(k)] = c.Headers[k]
	}
	req.Body = c.Body
	if name != "native" && !slices.ContainsFunc(protocols, func(p protocol) bool { return p.name == name }) {
		return dialect.Result{}, fmt.Errorf("protocol %q: want one of %s", name, strings.Join(Protocols(), ", "))
	}
	if len(c.Body) > event.MaxBody {
		return dialect.Result{}, &dialect.Error{Reason: event.ReasonSize, Field: "body", Value: fmt.Sprintf("%d bytes", len(c.Body)), Want: fmt.Sprintf("at most %d bytes", event.MaxBody)}
	}
	answer := decodeSip(new(decoding), &sip{Protocol: name, Target: target.String(), Request: *req})
	if f := answer.Refusal; f != nil {
		return dialect.Result{}, &dialect.Error{Reason: f.Reason, Field: f.Field, Value: f.Value, Want: f.Want}
	}
	return answer.Result, nil
}
