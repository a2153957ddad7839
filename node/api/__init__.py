"""The node's HTTP API: what users, wallets, explorers and monitors see of a running node.

The package reads a node through the port that it declares itself (``node.api.ports.NodeView``) and
decides nothing about the chain: it parses, calls, and renders. Everything it accepts is bounded by
the named constants of ``node.api.limits``; every refusal is a problem document of RFC 9457
(``node.api.problems``). One table (``node.api.routes``) registers the routes and generates the
OpenAPI document, so that the two cannot differ.
"""
