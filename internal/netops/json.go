package netops

import "github.com/cni-netops/plugins/internal/jsonappend"

// AppendJSON appends the plan as JSON, in the form that encoding/json reads
// back. It is written by hand because every ADD pays for it: reflection over
// these types takes longer than the kernel does.
func (p Plan) AppendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	if !p.Pod.IsZero() {
		o.Key("pod")
		o.B = p.Pod.appendJSON(o.B)
	}
	if !p.Host.IsZero() {
		o.Key("host")
		o.B = p.Host.appendJSON(o.B)
	}
	return o.Close()
}

func (c Change) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	if !c.Del.IsZero() {
		o.Key("del")
		o.B = c.Del.appendJSON(o.B)
	}
	if !c.Add.IsZero() {
		o.Key("add")
		o.B = c.Add.appendJSON(o.B)
	}
	o.Flag("addFirst", c.AddFirst)
	if len(c.Flushed) > 0 {
		o.Key("lost")
		o.B = jsonappend.List(o.B, c.Flushed, (*Neigh).appendJSON)
	}
	return o.Close()
}

func (s State) appendJSON(b []byte) []byte {
	b = jsonappend.List(append(b, `{"routes":`...), s.Routes, (*Route).appendJSON)
	if s.Len() > len(s.Routes) {
		b = jsonappend.List(append(b, `,"links":`...), s.Links, (*LinkAddr).appendJSON)
		b = jsonappend.List(append(b, `,"sysctls":`...), s.Sysctls, (*Sysctl).appendJSON)
		b = jsonappend.List(append(b, `,"neighs":`...), s.Neighs, (*Neigh).appendJSON)
		b = jsonappend.List(append(b, `,"rules":`...), s.Rules, (*Rule).AppendJSON)
	}
	return append(b, '}')
}

func (r *Route) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Prefix("dst", r.Dst)
	o.Number("table", r.Table)
	o.Number("metric", r.Metric)
	o.Number("type", uint32(r.Type))
	o.Addr("gw", r.Gw)
	o.Text("dev", r.Dev)
	o.Flag("anyDev", r.AnyDev)
	o.Flag("anyGw", r.AnyGw)
	if len(r.Hops) > 0 {
		o.Key("hops")
		o.B = jsonappend.List(o.B, r.Hops, (*NextHop).appendJSON)
	}
	o.Addr("src", r.Src)
	o.Number("scope", uint32(r.Scope))
	o.Flag("onlink", r.OnLink)
	o.Number("mtu", r.MTU)
	o.Number("advmss", r.AdvMSS)
	o.Number("protocol", uint32(r.Protocol))
	o.Number("tos", uint32(r.Tos))
	o.Prefix("from", r.From)
	o.Number("nhid", r.NhID)
	o.Number("expires", r.Expires)
	o.Bytes("raw", r.Raw)
	if len(r.Siblings) > 0 {
		o.Key("peers")
		o.B = jsonappend.List(o.B, r.Siblings, (*Route).appendJSON)
	}
	o.Number("rank", uint32(r.Position))
	return o.Close()
}

func (h *NextHop) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Addr("gw", h.Gw)
	o.Text("dev", h.Dev)
	o.Number("weight", uint32(h.Weight))
	o.Flag("onlink", h.OnLink)
	return o.Close()
}
