// Package ingest is the edge: it takes beacons over HTTP from clients that
// nobody trusts, checks the key before it reads the body, reads no more than
// the limits allow, decodes, admits, and acknowledges a beacon when the group
// that it is in is stored and synced.
package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/taste"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// Options say what an edge works on.
type Options struct {
	Tenants *tenant.Directory
	Journal Appender
	Fail    func(error) // called where the journal refused a write; the process should end and start again
	Logger  *slog.Logger
	Now     func() time.Time // default time.Now
	// DelayTarget is how long the store may take before events are shed;
	// default 50 ms.
	DelayTarget time.Duration
	// Taster makes a child process that runs [ServeTaster]; foreign bodies are
	// decoded in such children. Without it they are decoded in this process.
	Taster      func() *exec.Cmd
	Tasters     int  // children; default 4
	TasteNative bool // native bodies are decoded in children too
	Network     Network
}

// Edge serves the clients. Make it with [New]; [Edge.Run] must run for beacons
// to be acknowledged.
type Edge struct {
	o           Options
	batcher     *batcher
	metrics     *metricSet
	decoders    sync.Pool
	mux         *http.ServeMux
	perimeter   *admit.Perimeter
	gate        *admit.Gate
	cardinality *admit.Cardinality
	streams     streams
	tasters     *taste.Pool[sip, swallowed] // nil: decoded here
}

// New returns an edge.
func New(o Options) *Edge {
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Edge{o: o, metrics: newMetricSet(), mux: http.NewServeMux()}
	e.batcher = newBatcher(o.Journal, e.metrics, o.Fail)
	e.gate = admit.NewGate(o.DelayTarget)
	e.perimeter = o.Network.perimeter()
	e.cardinality = admit.NewCardinality()
	if o.Taster != nil {
		e.tasters = taste.New[sip, swallowed](taste.Options{Command: o.Taster, Tasters: o.Tasters, Logger: o.Logger, Now: o.Now})
	}
	e.decoders.New = func() any { return new(work) }
	e.mux.HandleFunc("POST /v1/beacons", e.beacons)
	e.mux.HandleFunc("OPTIONS /v1/beacons", e.preflight)
	e.mux.HandleFunc("GET /v1/stream", e.stream)
	e.foreignRoutes()
	return e
}

// work is the scratch of one request.
type work struct {
	dec    beacon.Decoder
	beacon event.Beacon
	memo   admit.Memo
	body   []byte
	gz     *gzip.Reader
}

// Run stores groups until ctx ends, and then what is still open.
func (e *Edge) Run(ctx context.Context) error {
	// The batcher outlives the streams, which end when what they have read is
	// acknowledged.
	store, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { e.gate.Run(ctx) })
	wg.Go(func() {
		e.watchStreams(ctx)
		stop()
	})
	e.batcher.run(store)
	wg.Wait()
	if e.tasters != nil {
		e.tasters.Close()
	}
	return nil
}

// ServeHTTP serves the routes of clients.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// Routes returns the patterns that the edge serves.
func (e *Edge) Routes() []string {
	routes := []string{"/v1/beacons", "/v1/stream"}
	for _, p := range protocols {
		routes = append(routes, p.paths...)
	}
	return routes
}

// refusal is why a request is refused as a whole.
type refusal struct {
	status int
	reason event.Reason
	field  string
	value  string
	want   string
}

func (e *Edge) preflight(w http.ResponseWriter, r *http.Request) {
	g, err := e.o.Tenants.Key(r.URL.Query().Get("key"))
	if err == nil && g.AllowsOrigin(r.Header.Get("Origin")) {
		cors(w, r)
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "POST")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Content-Encoding")
		h.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
}

// cors lets the page read the answer. sendBeacon sends credentials, so the
// origin must be named; we set no cookies and read none.
func cors(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Origin")
	if o := r.Header.Get("Origin"); o != "" {
		h.Set("Access-Control-Allow-Origin", o)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After, Serin-Classes")
	}
}

func (e *Edge) beacons(w http.ResponseWriter, r *http.Request) {
	if e.tasters != nil && e.o.TasteNative {
		e.foreign(&nativeProtocol, w, r)
		return
	}
	start := time.Now()
	key := r.URL.Query().Get("key")
	g, err := e.o.Tenants.Key(key)
	if err != nil {
		// The answer must be readable by the page's owner, whoever that is.
		cors(w, r)
		e.refuse(w, "", refusal{http.StatusUnauthorized, event.ReasonKey, "key", key, "a public key of a tenant"})
		return
	}
	if !g.AllowsOrigin(r.Header.Get("Origin")) {
		e.refuse(w, g.Tenant.String(), refusal{http.StatusForbidden, event.ReasonOrigin, "Origin", r.Header.Get("Origin"), "an origin on the key's list"})
		return
	}
	cors(w, r)
	wk := e.decoders.Get().(*work)
	defer e.decoders.Put(wk)
	ref := media(r, "text/plain", "application/json")
	if ref == nil {
		ref = wk.read(r, r.Header.Get("Content-Encoding"))
	}
	if ref != nil {
		e.refuse(w, g.Tenant.String(), *ref)
		return
	}
	wk.beacon.Reset()
	bad, err := wk.dec.Decode(wk.body, &wk.beacon)
	if err != nil {
		var de *beacon.Error
		if !errors.As(err, &de) {
			de = &beacon.Error{Reason: event.ReasonJSON, Field: "body", Want: "a beacon"}
		}
		status := http.StatusBadRequest
		if de.Reason == event.ReasonSize {
			status = http.StatusRequestEntityTooLarge
		}
		e.refuse(w, g.Tenant.String(), refusal{status, de.Reason, de.Field, de.Value, de.Want})
		return
	}
	sent := len(wk.beacon.Events) + len(bad)
	now := e.o.Now().UnixMilli()
	client := e.client(g, r, now)
	whole, late := admit.Beacon(g, &client, &wk.beacon, now)
	if whole != nil {
		rejected("event", g.Tenant.String(), whole.Reason, sent)
		if unwanted(whole) {
			answerUnwanted(w, whole)
			return
		}
		e.refuse(w, g.Tenant.String(), refusal{http.StatusForbidden, whole.Reason, whole.Field, whole.Value, whole.Want})
		return
	}
	shed := e.gate.Shed(g, &wk.beacon)
	e.cardinality.Bound(g, &client, &wk.memo, &wk.beacon, now)
	accepted := len(wk.beacon.Events)
	if err := e.store(r.Context(), g, &wk.beacon); err != nil {
		if r.Context().Err() != nil {
			return // the client has gone, and was told nothing
		}
		rejected("event", g.Tenant.String(), event.ReasonBusy, sent)
		w.Header().Set("Retry-After", "2")
		e.refuse(w, g.Tenant.String(), refusal{http.StatusServiceUnavailable, event.ReasonBusy, "journal", err.Error(), "a journal with room; send the same beacon again"})
		return
	}
	e.metrics.accepted.Add(accepted)
	e.metrics.beacons.Inc()
	for _, b := range bad {
		rejected("event", g.Tenant.String(), b.Reason, 1)
	}
	for _, b := range late {
		rejected("event", g.Tenant.String(), b.Reason, 1)
	}
	e.advise(w, g, wk.beacon.Tenancy)
	e.answer(w, accepted, shed, sent, bad, late)
	e.metrics.ack.UpdateDuration(start)
}

// rejection is one rejected event in an answer.
type rejection struct {
	Index  int          `json:"index"`
	Reason event.Reason `json:"reason"`
	Field  string       `json:"field"`
	Value  string       `json:"value"`
	Want   string       `json:"want"`
}

// answer says how many events were stored, how many were shed, and for each
// other one why not.
func (e *Edge) answer(w http.ResponseWriter, accepted, shed, sent int, bad []beacon.Rejection, late []admit.Rejection) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	if len(bad) == 0 && len(late) == 0 && shed == 0 {
		fmt.Fprintf(w, `{"accepted":%d,"rejected":[]}`, accepted)
		return
	}
	all := rejections(sent, bad, late)
	if all == nil {
		all = []rejection{}
	}
	writeJSON(w, struct {
		Accepted int         `json:"accepted"`
		Rejected []rejection `json:"rejected"`
		Shed     int         `json:"shed,omitempty"`
	}{accepted, all, shed})
}

// rejections joins what the decoder and what admit left out of sent events.
// Both lists name events by their place in the client's array: admit counts
// only those that the decoder let through, so its places are moved past the
// ones that the decoder had rejected.
func rejections(sent int, bad []beacon.Rejection, late []admit.Rejection) []rejection {
	if len(bad)+len(late) == 0 {
		return nil
	}
	var all []rejection
	isBad := make([]bool, sent)
	for _, b := range bad {
		all = append(all, rejection{b.Index, b.Reason, b.Field, b.Value, b.Want})
		isBad[b.Index] = true
	}
	var places []int
	for i, b := range isBad {
		if !b {
			places = append(places, i)
		}
	}
	for _, l := range late {
		i := places[l.Index]
		all = append(all, rejection{i, l.Reason, fmt.Sprintf("events[%d].t", i), l.Value, l.Want})
	}
	return all
}

// store waits until beacons are stored, and tells the gate how long it took.
func (e *Edge) store(ctx context.Context, g *tenant.Grant, beacons ...*event.Beacon) error {
	start := time.Now()
	err := e.batcher.add(ctx, g.Tenant, beacons...)
	if ctx.Err() == nil {
		e.gate.Waited(time.Since(start))
	}
	return err
}

// advise tells an SDK which classes to hold.
func (e *Edge) advise(w http.ResponseWriter, g *tenant.Grant, t event.Tenancy) {
	if advice := e.gate.Advice(g, t); advice != "" {
		w.Header().Set("Serin-Classes", advice)
	}
}

func (e *Edge) refuse(w http.ResponseWriter, tenantName string, f refusal) {
	rejected("beacon", tenantName, f.reason, 1)
	f.write(w)
}

// maxShown is how many bytes of a value an answer repeats.
const maxShown = 64

func shortened(value string) string { return dialect.Clip(value, maxShown) }

// write answers with the refusal.
func (f *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	type body struct {
		Reason  event.Reason `json:"reason"`
		Field   string       `json:"field"`
		Value   string       `json:"value"`
		Want    string       `json:"want"`
		Message string       `json:"message"`
	}
	value := shortened(f.value)
	writeJSON(w, map[string]body{"error": {f.reason, f.field, value, f.want, fmt.Sprintf("%s: %q: want %s", f.field, value, f.want)}})
}

// writeJSON writes the rest of an answer. The status is out already, so a
// client that has gone is nobody's fault and nobody's news.
func writeJSON(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

// media refuses content types other than those that are allowed; a request
// without one is taken.
func media(r *http.Request, allowed ...string) *refusal {
	ct := r.Header.Get("Content-Type")
	if ct == "" || len(allowed) == 0 {
		return nil
	}
	mt, _, err := mime.ParseMediaType(ct)
	if err != nil || !slices.Contains(allowed, mt) {
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Type", ct, strings.Join(allowed, " or ")}
	}
	return nil
}

// read reads the body into wk.body, inflated, within the limits.
func (wk *work) read(r *http.Request, encoding string) *refusal {
	if r.ContentLength > event.MaxBody {
		return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "Content-Length", fmt.Sprint(r.ContentLength), fmt.Sprintf("at most %d bytes", event.MaxBody)}
	}
	wire := &counting{r: io.LimitReader(r.Body, event.MaxBody+1)}
	var src io.Reader = wire
	packed := false
	switch enc := strings.ToLower(encoding); enc {
	case "", "identity":
	case "deflate":
		packed = true
		z, err := zlib.NewReader(wire)
		if err != nil {
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "Content-Encoding", "deflate", "a body that is zlib"}
		}
		defer z.Close()
		src = z
	case "gzip":
		packed = true
		var err error
		if wk.gz == nil {
			wk.gz, err = gzip.NewReader(wire)
		} else {
			err = wk.gz.Reset(wire)
		}
		if err != nil {
			wk.gz = nil
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "Content-Encoding", "gzip", "a body that is gzip"}
		}
		src = wk.gz
	default:
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Encoding", enc, "none, gzip or deflate"}
	}
	wk.body = wk.body[:0]
	for {
		if len(wk.body) == cap(wk.body) {
			wk.body = append(wk.body, 0)[:len(wk.body)]
		}
		n, err := src.Read(wk.body[len(wk.body):cap(wk.body)])
		wk.body = wk.body[:len(wk.body)+n]
		size := len(wk.body)
		switch {
		case size > event.MaxBody || wire.n > event.MaxBody:
			return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "body", fmt.Sprintf("over %d bytes", event.MaxBody), fmt.Sprintf("at most %d bytes, inflated", event.MaxBody)}
		case packed && size > event.MaxSDKBody && size > event.MaxRatio*wire.n:
			return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "body", fmt.Sprintf("inflates %d times", size/max(wire.n, 1)), fmt.Sprintf("at most %d times", event.MaxRatio)}
		case err == io.EOF:
			return nil
		case err != nil && packed && !errors.Is(err, context.Canceled):
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "body", "broken", "a body that is whole and of its encoding"}
		case err != nil:
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "body", "ended early", "a whole body"}
		}
	}
}

// counting counts the bytes read.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
