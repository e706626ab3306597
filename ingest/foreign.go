package ingest

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
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
	ok     func(http.ResponseWriter, *http.Request, *outcome)
	refuse func(http.ResponseWriter, *http.Request, *refusal)
}

// outcome is what became of a body that was taken.
type outcome struct {
	req      *dialect.Request
	accepted int
	shed     int
	rejected []dialect.Rejection
}

func (o *outcome) message() string {
	r := &o.rejected[0]
	return fmt.Sprintf("%s: %s: %q: want %s", r.Reason, r.Field, r.Value, r.Want)
}

var protocols = []protocol{
	{"faro", []string{"/faro/collect", "/faro/collect/{key}"}, headerKey, faro.Decode, accepted, plainRefusal},
	{"sentry", []string{"/api/{project}/envelope/"}, sentry.Key, sentry.Decode, sentryOK, sentryRefusal},
	{"otlp", []string{"/v1/traces", "/v1/logs", "/v1/metrics"}, headerKey, otlp.Decode, otlpOK, otlpRefusal},
	{"reporting", []string{"/v1/reports"}, headerKey, report.DecodeReports, noContent, plainRefusal},
	{"web-vitals", []string{"/v1/vitals"}, headerKey, report.DecodeVitals, noContent, plainRefusal},
	{"elastic", []string{"/elastic/{key}/intake/v2/rum/events", "/elastic/{key}/intake/v3/rum/events", "/intake/v2/rum/events", "/intake/v3/rum/events"},
		headerKey, elastic.Decode, accepted, plainRefusal},
	{"datadog", []string{"/dd"}, datadog.Key, datadog.Decode, accepted, plainRefusal},
}

// nativeProtocol is our own, for where native bodies are tasted too.
var nativeProtocol = protocol{"native", nil, headerKey, nil, accepted, plainRefusal}

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
			e.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { e.foreign(p, w, r) })
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
	cors(w, r)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Allow-Headers", sdkHeaders)
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}

// maxDSN bounds how much of a body is read before its key is known: only a
// Sentry tunnel has its key in the body.
const maxDSN = 4 << 10

func (e *Edge) foreign(p *protocol, w http.ResponseWriter, r *http.Request) {
	start := e.o.Now()
	cors(w, r)
	req := &dialect.Request{Method: r.Method, Target: r.URL, Header: make(map[string]string, len(r.Header)), Now: start.UnixMilli()}
	for name, values := range r.Header {
		req.Header[strings.ToLower(name)] = values[0]
	}
	for _, name := range addressHeaders {
		delete(req.Header, name)
	}
	req.Peer = e.perimeter.Pseudonym(peerOf(r), headerOf(r.Header), req.Now)
	refuse := func(tenantName string, ref *refusal) {
		rejected("beacon", tenantName, ref.reason, 1)
		p.refuse(w, r, ref)
	}
	req.Key = r.PathValue("key")
	if req.Key == "" {
		req.Key = p.key(req)
	}
	body := r.Body
	if req.Key == "" && p.name == "sentry" && r.Header.Get("Content-Encoding") == "" {
		head := make([]byte, maxDSN)
		n := 0
		for n < len(head) && !bytes.ContainsRune(head[:n], '\n') {
			m, err := body.Read(head[n:])
			n += m
			if err != nil {
				break
			}
		}
		req.Body = head[:n]
		req.Key = p.key(req)
		r.Body = readCloser{bytes.NewReader(head[:n]), body}
	}
	g, err := e.o.Tenants.Key(req.Key)
	if err != nil {
		refuse("", &refusal{http.StatusUnauthorized, event.ReasonKey, "key", req.Key, "a public key of a tenant"})
		return
	}
	if !g.AllowsOrigin(r.Header.Get("Origin")) {
		refuse(g.Tenant.String(), &refusal{http.StatusForbidden, event.ReasonOrigin, "Origin", r.Header.Get("Origin"), "an origin on the key's list"})
		return
	}
	wk := e.decoders.Get().(*work)
	defer e.decoders.Put(wk)
	if ref := wk.read(r, ""); ref != nil { // inflated where it is decoded
		refuse(g.Tenant.String(), ref)
		return
	}
	req.App = g.App
	q := sip{Protocol: p.name, Target: r.URL.RequestURI(), Request: *req}
	q.Request.Target, q.Request.Body = nil, wk.body
	res, ref := e.taste(r.Context(), g, &q)
	if ref != nil {
		if ref.status == http.StatusServiceUnavailable || ref.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "5")
		}
		refuse(g.Tenant.String(), ref)
		return
	}
	o := outcome{req: req, rejected: res.Rejected}
	client := e.client(g, r, req.Now)
	e.admitAll(g, &client, req, res, &o)
	if len(res.Beacons) > 0 {
		list := make([]*event.Beacon, len(res.Beacons))
		for i := range res.Beacons {
			list[i] = &res.Beacons[i]
		}
		if err := e.store(r.Context(), g, list...); err != nil {
			if r.Context().Err() != nil {
				return // the client has gone, and was told nothing
			}
			rejected("event", g.Tenant.String(), event.ReasonBusy, o.accepted)
			w.Header().Set("Retry-After", "2")
			refuse(g.Tenant.String(), &refusal{http.StatusServiceUnavailable, event.ReasonBusy, "journal", err.Error(), "a journal with room; send the same body again"})
			return
		}
	}
	e.count(p, g, res, &o)
	if len(res.Beacons) > 0 {
		e.advise(w, g, res.Beacons[0].Tenancy)
	}
	p.ok(w, r, &o)
	e.metrics.ack.Update(e.o.Now().Sub(start).Seconds())
}

// readCloser reads what was read ahead and then the rest.
type readCloser struct {
	head *bytes.Reader
	rest interface {
		Read([]byte) (int, error)
		Close() error
	}
}

func (r readCloser) Read(p []byte) (int, error) {
	if r.head.Len() > 0 {
		return r.head.Read(p)
	}
	return r.rest.Read(p)
}

func (r readCloser) Close() error { return r.rest.Close() }

// admitAll holds the beacons against the grant, and takes out of res what is
// not admitted.
func (e *Edge) admitAll(g *tenant.Grant, client *admit.Client, req *dialect.Request, res *dialect.Result, o *outcome) {
	least := admit.Claimed(req.Header["baggage"])
	if own, err := event.ParseTenancy(g.Tenancy); err == nil {
		least = max(least, own) // a protocol without tenancies has its key's
	}
	kept := res.Beacons[:0]
	for _, b := range res.Beacons {
		b.Tenancy = max(b.Tenancy, least)
		whole, late := admit.Beacon(g, client, &b, req.Now)
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
		o.shed += e.gate.Shed(g, &b)
		e.cardinality.Bound(g, client, nil, &b, req.Now)
		o.accepted += len(b.Events)
		kept = append(kept, b)
	}
	res.Beacons = kept
}

func (e *Edge) count(p *protocol, g *tenant.Grant, res *dialect.Result, o *outcome) {
	e.metrics.accepted.Add(o.accepted)
	e.metrics.beacons.Add(len(res.Beacons))
	name := g.Tenant.String()
	for i := range o.rejected {
		if o.rejected[i].Reason != event.ReasonPrivacy { // those were counted where they were left out
			rejected("event", name, o.rejected[i].Reason, 1)
		}
	}
	ignored := 0
	for _, n := range res.Ignored {
		ignored += n
	}
	// Item types are the client's to choose, and no label may be.
	metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_ignored_items_total{tenant=%q,protocol=%q}`, name, p.name)).Add(ignored)
	lost := int64(0)
	for _, d := range res.Drops {
		lost += d.Count
	}
	metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_client_dropped_total{tenant=%q,protocol=%q}`, name, p.name)).AddInt64(lost)
}

// The answers.

func accepted(w http.ResponseWriter, _ *http.Request, o *outcome) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	if o.rejected == nil {
		o.rejected = []dialect.Rejection{}
	}
	list := make([]rejection, len(o.rejected))
	for i, r := range o.rejected {
		list[i] = rejection{r.Index, r.Reason, r.Field, r.Value, r.Want}
	}
	writeJSON(w, struct {
		Accepted int         `json:"accepted"`
		Rejected []rejection `json:"rejected"`
		Shed     int         `json:"shed,omitempty"`
	}{o.accepted, list, o.shed})
}

func noContent(w http.ResponseWriter, _ *http.Request, _ *outcome) {
	w.WriteHeader(http.StatusNoContent)
}

func plainRefusal(w http.ResponseWriter, _ *http.Request, f *refusal) { f.write(w) }

func sentryOK(w http.ResponseWriter, _ *http.Request, o *outcome) {
	w.Header().Set("Content-Type", "application/json")
	if len(o.rejected) > 0 {
		w.Header().Set("X-Sentry-Error", o.message())
	}
	writeJSON(w, struct{}{})
}

// sentryRefusal answers as Relay does; an SDK backs off by the header.
func sentryRefusal(w http.ResponseWriter, _ *http.Request, f *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if after := h.Get("Retry-After"); after != "" {
		h.Set("X-Sentry-Rate-Limits", after+"::organization")
	}
	w.WriteHeader(f.status)
	writeJSON(w, map[string]any{"detail": fmt.Sprintf("%s: %q: want %s", f.field, shortened(f.value), f.want), "causes": []string{string(f.reason)}})
}

func protobuf(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Content-Type"), "protobuf")
}

// otlpOK answers in the encoding of the request, with a partial success where
// something was rejected.
func otlpOK(w http.ResponseWriter, r *http.Request, o *outcome) {
	n := len(o.rejected)
	if protobuf(r) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		if n == 0 {
			w.WriteHeader(http.StatusOK)
			return
		}
		part := protowire.AppendTag(nil, 1, protowire.VarintType)
		part = protowire.AppendVarint(part, uint64(n))
		part = protowire.AppendTag(part, 2, protowire.BytesType)
		part = protowire.AppendString(part, o.message())
		msg := protowire.AppendTag(nil, 1, protowire.BytesType)
		_, _ = w.Write(protowire.AppendBytes(msg, part)) // a client that has gone is nobody's news
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if n == 0 {
		writeJSON(w, struct{}{})
		return
	}
	field := map[string]string{otlp.Traces: "rejectedSpans", otlp.Logs: "rejectedLogRecords", otlp.Metrics: "rejectedDataPoints"}[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	writeJSON(w, map[string]any{"partialSuccess": map[string]string{field: fmt.Sprint(n), "errorMessage": o.message()}})
}

// otlpRefusal answers with a google.rpc.Status, as the specification wants.
func otlpRefusal(w http.ResponseWriter, r *http.Request, f *refusal) {
	code := map[int]int{http.StatusUnauthorized: 16, http.StatusForbidden: 7, http.StatusServiceUnavailable: 14, http.StatusTooManyRequests: 8, http.StatusRequestEntityTooLarge: 8}[f.status]
	if code == 0 {
		code = 3
	}
	text := fmt.Sprintf("%s: %s: %q: want %s", f.reason, f.field, shortened(f.value), f.want)
	if protobuf(r) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(f.status)
		msg := protowire.AppendTag(nil, 1, protowire.VarintType)
		msg = protowire.AppendVarint(msg, uint64(code))
		msg = protowire.AppendTag(msg, 2, protowire.BytesType)
		_, _ = w.Write(protowire.AppendString(msg, text)) // a client that has gone is nobody's news
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	writeJSON(w, map[string]any{"code": code, "message": text})
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
	answer := decodeSip(&sip{Protocol: name, Target: target.String(), Request: *req})
	if f := answer.Refusal; f != nil {
		return dialect.Result{}, &dialect.Error{Reason: f.Reason, Field: f.Field, Value: f.Value, Want: f.Want}
	}
	return answer.Result, nil
}
