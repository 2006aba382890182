package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
)

// subnetEnv is what flanneld says of this node.
type subnetEnv struct {
	networks []netip.Prefix // all of flannel's, IPv4 first
	subnets  []netip.Prefix // this node's, one of each family, IPv4 first
	mtu      uint32         // bytes
	ipMasq   bool           // flanneld masquerades what leaves its networks
}

// The keys of subnet.env.
const (
	network4 = "FLANNEL_NETWORK"
	subnet4  = "FLANNEL_SUBNET"
	network6 = "FLANNEL_IPV6_NETWORK"
	subnet6  = "FLANNEL_IPV6_SUBNET"
	mtuKey   = "FLANNEL_MTU"
	masqKey  = "FLANNEL_IPMASQ"
)

// advice is what to do where flanneld has not said what there is to say.
const advice = "look at the flannel pod's log on this node"

// readSubnetEnv reads the file that flanneld writes. What is not there yet is
// code 11: it will be.
func readSubnetEnv(path, goos string) (subnetEnv, error) {
	data, err := readRegular(path, os.Stat)
	if errors.Is(err, fs.ErrNotExist) {
		return subnetEnv{}, cni.Errorf(types.ErrTryAgainLater, "flanneld has not written %s yet: %s", path, advice)
	} else if err != nil {
		return subnetEnv{}, fmt.Errorf("read what flanneld says of this node: %w", err)
	}
	return parseSubnetEnv(data, path, goos)
}

// parseSubnetEnv reads the text of subnet.env. All that is wrong is told at
// once; where only keys are missing, that is code 11.
func parseSubnetEnv(data []byte, path, goos string) (subnetEnv, error) {
	p := envParser{path: path, values: scanEnv(data)}
	env := subnetEnv{networks: slices.Concat(p.list(network4), p.list(network6)), subnets: slices.Concat(p.one(subnet4), p.one(subnet6))}
	env.mtu, env.ipMasq = p.mtu(), p.masq()
	missing := p.missing(goos)
	if len(p.problems) == 0 && len(missing) == 0 {
		return env, nil
	}
	code := types.ErrInvalidNetworkConfig
	if len(p.problems) == 0 {
		code = types.ErrTryAgainLater
	}
	if len(missing) == 0 {
		p.problems[len(p.problems)-1] += "; " + advice
	} else {
		p.problems = append(p.problems, fmt.Sprintf("flanneld has not written %s to %s yet: %s", strings.Join(missing, ", "), path, advice))
	}
	return subnetEnv{}, cni.Several(code, p.problems)
}

// envLine is the value of a key, and where it stands.
type envLine struct {
	number int
	value  string
}

// scanEnv reads KEY=value lines as tolerantly as a shell, and people, write
// them. The last one of a key counts. One without a value is not there.
func scanEnv(data []byte) map[string]envLine {
	values := map[string]envLine{}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors begin so
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if words := strings.Fields(key); len(words) == 2 && words[0] == "export" {
			key = words[1]
		}
		key = strings.TrimSpace(key)
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if value = unquote(strings.TrimSpace(value)); value == "" {
			delete(values, key)
		} else {
			values[key] = envLine{number, value}
		}
	}
	return values
}

// unquote takes quotes away from around a value, or a comment from behind it.
func unquote(value string) string {
	if value == "" {
		return ""
	}
	if q := value[0]; q == '"' || q == '\'' {
		if inner, after, ok := strings.Cut(value[1:], string(q)); ok && behind(after) {
			return strings.TrimSpace(inner)
		}
		return value
	}
	if at := strings.Index(value, " #"); at >= 0 {
		value = value[:at]
	} else if value[0] == '#' {
		return ""
	}
	return strings.TrimSpace(value)
}

// behind reports whether that may stand behind a closing quote.
func behind(after string) bool {
	after = strings.TrimSpace(after)
	return after == "" || after[0] == '#'
}

// envParser makes values of texts, and notes what cannot be made one.
type envParser struct {
	path     string
	values   map[string]envLine
	problems []string
}

func (p *envParser) invalid(key, value, what string) {
	p.problems = append(p.problems, fmt.Sprintf("%s line %d: %s: %q is not %s", p.path, p.values[key].number, key, value, what))
}

// one is the subnet of a key that has one.
func (p *envParser) one(key string) []netip.Prefix {
	line, ok := p.values[key]
	if !ok {
		return nil
	}
	return p.prefix(key, line.value)
}

// list is the subnets of a key that may have several, each once.
func (p *envParser) list(key string) []netip.Prefix {
	var list []netip.Prefix
	if strings.Trim(p.values[key].value, ", ") == "" {
		delete(p.values, key) // commas alone are no value
	}
	for part := range strings.SplitSeq(p.values[key].value, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		for _, prefix := range p.prefix(key, part) {
			if !slices.Contains(list, prefix) {
				list = append(list, prefix)
			}
		}
	}
	return list
}

// prefix is a subnet without its host bits: flanneld writes the address that
// the bridge has in it.
func (p *envParser) prefix(key, value string) []netip.Prefix {
	family, is4 := "an IPv4 subnet", true
	if key == network6 || key == subnet6 {
		family, is4 = "an IPv6 subnet", false
	}
	prefix, err := netip.ParsePrefix(value)
	if err != nil || prefix.Addr().Is4() != is4 || prefix.Addr().Is4In6() {
		p.invalid(key, value, family)
		return nil
	}
	return []netip.Prefix{prefix.Masked()}
}

func (p *envParser) mtu() uint32 {
	line, ok := p.values[mtuKey]
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(line.value, 10, 32)
	if err != nil || n < leastMTU || n > mostMTU {
		p.invalid(mtuKey, line.value, fmt.Sprintf("a whole number from %d to %d", leastMTU, mostMTU))
	}
	return uint32(n)
}

// The least MTU that IPv4 takes (RFC 791), and the most that an IP packet has,
// in bytes.
const leastMTU, mostMTU = 68, 65535

func (p *envParser) masq() bool {
	line, ok := p.values[masqKey]
	switch strings.ToLower(line.value) {
	case "true", "1", "yes":
		return true
	case "false", "0", "no":
	default:
		if ok {
			p.invalid(masqKey, line.value, "true, 1, yes, false, 0 or no")
		}
	}
	return false
}

// missing lists the keys that have to be there and are not. A family counts with
// both of its keys; Windows knows IPv4 only.
func (p *envParser) missing(goos string) []string {
	has := func(key string) bool { _, ok := p.values[key]; return ok }
	var keys []string
	six := has(network6) || has(subnet6)
	if has(network4) || has(subnet4) || !six || goos == windows {
		keys = append(keys, network4, subnet4)
	}
	if six && goos != windows {
		keys = append(keys, network6, subnet6)
	}
	return slices.DeleteFunc(append(keys, mtuKey, masqKey), has)
}
