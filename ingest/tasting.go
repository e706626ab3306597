package ingest

import (
	"bytes"
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
	d := new(decoding)
	return taste.Serve(taste.DefaultLimits, in, out, func(q, a []byte) []byte {
		s, err := readSip(q)
		if err != nil {
			panic("BUG: " + err.Error()) // the parent wrote it
		}
		answer := decodeSip(d, &s)
		return answer.put(a)
	})
}

// decodeSip inflates and decodes one request, in whichever process it runs. What it
// returns may be in d.
func decodeSip(d *decoding, q *sip) swallowed {
	req := &q.Request
	target, err := url.Parse(q.Target)
	if err != nil {
		return swallowed{Refusal: &spat{http.StatusBadRequest, event.ReasonType, "target", q.Target, "a URL"}}
	}
	req.Target = target
	body, f := d.unpack.inflate(req.Body, encodingOf(q.Protocol, req))
	if f != nil {
		return swallowed{Refusal: &spat{f.status, f.reason, f.field, f.value, f.want}}
	}
	req.Body, req.Memory = body, &d.memory
	return decodePlain(d, q.Protocol, req)
}

// encodingOf returns how a request's body is packed.
func encodingOf(protocol string, req *dialect.Request) string {
	if protocol == "datadog" && datadog.Deflated(req) {
		return "deflate"
	}
	return req.Header["content-encoding"]
}

// decodePlain decodes one request whose body is inflated.
func decodePlain(d *decoding, name string, req *dialect.Request) swallowed {
	defer req.Done()
	var res dialect.Result
	var err error
	if name == "native" {
		res, err = decodeNative(d, req)
	} else {
		i := slices.IndexFunc(protocols, func(p protocol) bool { return p.name == name })
		if i < 0 {
			panic("BUG: no protocol " + name)
		}
		if f := media(req.Header["content-type"], protocols[i].types...); f != nil {
			return swallowed{Refusal: &spat{f.status, f.reason, f.field, f.value, f.want}}
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

func decodeNative(d *decoding, req *dialect.Request) (dialect.Result, error) {
	d.dec.Tenancy = req.Tenancy
	bad, err := d.dec.Decode(req.Body, &d.beacon)
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

// maxHere is how many bytes an inflated body of a foreign protocol may have to
// be decoded in this process. What its decoder allocates is in proportion to
// them: in fastjson's worst case, an array of digits, some 40 bytes for each.
const maxHere = event.MaxSDKBody

// decodeForeign decodes a request of a foreign protocol, in this process where
// its kind is familiar, else in a child. Its Body is the one that came over the
// wire. What it returns may be in d.
func (e *Edge) decodeForeign(ctx context.Context, d *decoding, g *tenant.Grant, network string, p *protocol, req *dialect.Request) (*dialect.Result, *refusal) {
	encoding := encodingOf(p.name, req)
	var kind []byte
	if e.tasters != nil && !e.o.TasteAll {
		if e.tasters.Refused(taste.Sample{Tenant: g.Tenant.String(), Key: g.KeyID, Network: network, Protocol: p.name, Body: req.Body}) != nil {
			return nil, quarantined()
		}
		var res *dialect.Result
		var ref *refusal
		if res, ref, kind = e.decodeFamiliar(d, g, p.name, encoding, req); res != nil || ref != nil {
			return res, ref
		}
	}
	q := sip{Protocol: p.name, Target: req.Target.RequestURI(), Request: *req}
	q.Request.Target = nil
	return e.tasteKind(ctx, g, network, kind, encoding, &q)
}

// decodeFamiliar decodes a body in this process where its kind is familiar. Else
// it returns neither a result nor a refusal, but the kind, as far as it is known.
func (e *Edge) decodeFamiliar(d *decoding, g *tenant.Grant, protocol, encoding string, req *dialect.Request) (*dialect.Result, *refusal, []byte) {
	plain, ref, known := e.unpacked(d, g, protocol, encoding, req.Body)
	if ref != nil || !known || len(plain) > maxHere {
		return nil, ref, nil
	}
	d.known = foreignKey(d.known[:0], g, protocol, req, plain)
	if !e.familiar.strange(d.known) {
		if a, ok := d.decodeHere(protocol, req, plain); ok {
			res, ref := a.told()
			return res, ref, nil
		}
		e.familiar.condemn(d.known) // and a child looks at it
	}
	return nil, nil, bytes.Clone(d.known)
}

// decodeHere decodes an inflated body in this process. ok is false where the
// decoder panicked.
func (d *decoding) decodeHere(protocol string, req *dialect.Request, plain []byte) (a swallowed, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			d.memory = dialect.Memory{} // whatever state it was left in
			a, ok = swallowed{}, false
		}
	}()
	own := *req
	own.Body, own.Memory = plain, &d.memory
	return decodePlain(d, protocol, &own), true
}

// told returns what an answer says.
func (a *swallowed) told() (*dialect.Result, *refusal) {
	if f := a.Refusal; f != nil {
		return nil, &refusal{f.Status, f.Reason, f.Field, f.Value, f.Want}
	}
	return &a.Result, nil
}

// quarantined is the refusal of a body whose form is in quarantine.
func quarantined() *refusal {
	return &refusal{http.StatusBadRequest, event.ReasonJail, "body", "", "another form of body; those of this one cannot be decoded"}
}

// taste decodes a request, in a child process where there are any.
func (e *Edge) taste(ctx context.Context, g *tenant.Grant, network string, q *sip) (*dialect.Result, *refusal) {
	var a swallowed
	if e.tasters == nil {
		a = decodeSip(new(decoding), q)
	} else {
		sample := taste.Sample{Tenant: g.Tenant.String(), Key: g.KeyID, Network: network, Protocol: q.Protocol, Body: q.Request.Body}
		got, err := e.tasters.Taste(ctx, sample, q.put(make([]byte, 0, len(q.Request.Body)+1024)))
		if err == nil {
			a, err = readSwallowed(got)
		}
		switch {
		case errors.Is(err, taste.ErrPoison):
			return nil, &refusal{http.StatusBadRequest, event.ReasonPoison, "body", "", "a body that can be decoded; this one is quarantined"}
		case errors.Is(err, taste.ErrQuarantined):
			return nil, quarantined()
		case err != nil:
			return nil, &refusal{http.StatusServiceUnavailable, event.ReasonBusy, "tasters", "", "a taster that is free; send the same body again"}
		}
	}
	return a.told()
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
