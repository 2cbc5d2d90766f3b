// The names that the plans file has: the compiler refuses others.

export interface PlanNames {
  metric: 'jobs' | 'api_calls' | 'storage_mb' | 'compute_minutes' | 'seats'
  scope: 'login' | 'register' | 'api' | 'jobs'
  feature: 'api_access' | 'priority_support' | 'custom_models' | 'advanced_analytics' | 'dedicated_support'
  plan: 'free' | 'pro' | 'enterprise'
}
