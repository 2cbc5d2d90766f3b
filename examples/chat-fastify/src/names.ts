// What the tiers name, for the compiler: it cannot read the plans file, and refuses any other name.

export interface ChatNames {
  metric: 'messages' | 'tokens'
  scope: never
  feature: 'document_sourcing' | 'pdf_generation'
  plan: 'free' | 'pro' | 'max' | 'enterprise'
}
