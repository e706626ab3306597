package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/ingest/datadog"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/taste"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// sip is what a taster is asked: one request, its body as it came over the
// wire. The target crosses as text.
type sip struct {
	Protocol string
	Target   string
	Request  dialect.Request
}

// swallowed is a taster's answer: a result or a refusal.
type swallowed struct {
	Result  dialect.Result
	Refusal *spat
}

// spat is a refusal on its way from a taster.
type spat struct {
	Status             int
	Reason             event.Reason
	Field, Value, Want string
}

// ServeTaster is a taster: it decodes what comes over in until in ends. It
// bounds its own process's memory and stack.
func ServeTaster(in io.Reader, out io.Writer) error {
	return taste.Serve(taste.DefaultLimits, in, out, func(q, a []byte) []byte {
		s, err := readSip(q)
		if err != nil {
			panic("BUG: " + err.Error()) // the parent wrote it
		}
		answer := decodeSip(&s)
		return answer.put(a)
	})
}

// decodeSip inflates and decodes one request, in whichever process it runs.
func decodeSip(q *sip) swallowed {
	req := &q.Request
	defer req.Done()
	target, err := url.Parse(q.Target)
	if err != nil {
		return swallowed{Refusal: &spat{http.StatusBadRequest, event.ReasonType, "target", q.Target, "a URL"}}
	}
	req.Target = target
	encoding := req.Header["content-encoding"]
	if q.Protocol == "datadog" && datadog.Deflated(req) {
		encoding = "deflate"
	}
	d := new(decoding)
	body, f := d.unpack.inflate(req.Body, encoding)
	if f != nil {
		return swallowed{Refusal: &spat{f.status, f.reason, f.field, f.value, f.want}}
	}
	req.Body = body
	var res dialect.Result
	if q.Protocol == "native" {
		res, err = decodeNative(d, body)
	} else {
		i := slices.IndexFunc(protocols, func(p protocol) bool { return p.name == q.Protocol })
		if i < 0 {
			panic("BUG: no protocol " + q.Protocol)
		}
		res, err = protocols[i].decode(req)
	}
	if err != nil {
		var de *dialect.Error
		if !errors.As(err, &de) {
			de = &dialect.Error{Reason: event.ReasonJSON, Field: "body", Want: "a body of the protocol"}
		}
		return swallowed{Refusal: &spat{http.StatusBadRequest, de.Reason, de.Field, de.Value, de.Want}}
	}
	return swallowed{Result: res}
}

func decodeNative(d *decoding, body []byte) (dialect.Result, error) {
	bad, err := d.dec.Decode(body, &d.beacon)
	if err != nil {
		var be *beacon.Error
		if errors.As(err, &be) {
			return dialect.Result{}, &dialect.Error{Reason: be.Reason, Field: be.Field, Value: be.Value, Want: be.Want}
		}
		return dialect.Result{}, err
	}
	res := dialect.Result{Beacons: []event.Beacon{d.beacon}}
	for _, b := range bad {
		res.Rejected = append(res.Rejected, dialect.Rejection{Index: b.Index, Reason: b.Reason, Field: b.Field, Value: b.Value, Want: b.Want})
	}
	return res, nil
}

// taste decodes a request, in a child process where there are any.
func (e *Edge) taste(ctx context.Context, g *tenant.Grant, q *sip) (*dialect.Result, *refusal) {
	var a swallowed
	if e.tasters == nil {
		a = decodeSip(q)
	} else {
		sample := taste.Sample{Tenant: g.Tenant.String(), Key: g.KeyID, Protocol: q.Protocol, Body: q.Request.Body}
		got, err := e.tasters.Taste(ctx, sample, q.put(make([]byte, 0, len(q.Request.Body)+1024)))
		if err == nil {
			a, err = readSwallowed(got)
		}
		switch {
		case errors.Is(err, taste.ErrPoison):
			return nil, &refusal{http.StatusBadRequest, event.ReasonPoison, "body", "", "a body that can be decoded; this one is quarantined"}
		case errors.Is(err, taste.ErrQuarantined):
			return nil, &refusal{http.StatusBadRequest, event.ReasonJail, "body", "", "another form of body; those of this one cannot be decoded"}
		case errors.Is(err, taste.ErrTripped):
			return nil, &refusal{http.StatusTooManyRequests, event.ReasonBreaker, "key", g.KeyID, "no burst of bodies that cannot be decoded"}
		case err != nil:
			return nil, &refusal{http.StatusServiceUnavailable, event.ReasonBusy, "tasters", "", "a taster that is free; send the same body again"}
		}
	}
	if f := a.Refusal; f != nil {
		return nil, &refusal{f.Status, f.Reason, f.Field, f.Value, f.Want}
	}
	return &a.Result, nil
}

// Quarantined returns the entries of a tenant's quarantine, the newest first.
func (e *Edge) Quarantined(id tenant.ID) any {
	list := []taste.Entry{}
	if e.tasters != nil {
		list = append(list, e.tasters.Quarantined(id.String())...)
	}
	return map[string]any{"quarantine": list}
}

// QuarantinedBody returns the bytes of one entry of a tenant's quarantine.
func (e *Edge) QuarantinedBody(id tenant.ID, entry int64) ([]byte, bool) {
	if e.tasters == nil {
		return nil, false
	}
	for _, one := range e.tasters.Quarantined(id.String()) {
		if one.ID == entry {
			return one.Body, true
		}
	}
	return nil, false
}

// Release lets bodies of a tenant's fingerprint be tasted again; false where
// none is quarantined.
func (e *Edge) Release(id tenant.ID, fingerprint string) bool {
	return e.tasters != nil && e.tasters.Release(id.String(), fingerprint)
}
